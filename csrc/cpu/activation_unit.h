// Compiles the activations whose formula is included before it, forward and backward
// (formula.cpp.in), and adds them to the tables.
#include "cpu/activation_blocks.h"
#include "cpu/loops.h"
#include "cpu/unit.h"
#include "kernels/activation_table.h"

ONEPASS_BEGIN
namespace {

template <template <class> class A, class T>
void forward_block(int64_t n, const double* options, const T* x, T* y) {
  using K = ActivationForward<A<T>, T>;
  run_returning<K, T>(K{make_functor<A<T>, T>(options)}, n, y, x);
}
template <template <class> class A, class T>
void backward_block(int64_t n, const double* options, const T* dy, const T* x, T* dx) {
  using K = ActivationBackward<A<T>, T>;
  run_returning<K, T>(K{make_functor<A<T>, T>(options)}, n, dx, dy, x);
}
template <template <class> class A, class T>
void add_blocks(ActivationBlocks<T>* blocks, int index) {
  blocks->forward[index] = &forward_block<A, T>;
  blocks->backward[index] = &backward_block<A, T>;
}
void add_blocks(ActivationTable* table) {
  for_each_defined(Activations{}, [=](auto tag, int index) {
    add_blocks<decltype(tag)::template Of>(&table->single, index);
    add_blocks<decltype(tag)::template Of>(&table->twice, index);
  });
}

}  // namespace
ONEPASS_END

ONEPASS_CPU_UNIT(ONEPASS_FORMULA) {
  using namespace onepass::ONEPASS_ISA;
  add_activations(backend);
  add_blocks(activation_table());
}
