// Activations, forward and backward, and dropout.
#include "cpu/activation_blocks.h"
#include "cpu/loops.h"
#include "cpu/mask.h"
#include "cpu/unit.h"
#include "kernels/activation_list.h"

ONEPASS_BEGIN
namespace {

template <template <class> class... A>
void add_activations(Backend* backend, List<A...>) {
  int index = 0;
  ((backend->activation[index] = &elementwise<Forward<A>::template Kernel, kNoGradient>,
    backend->activation_backward[index++] =
        &elementwise<Backward<A>::template Kernel, kNoGradient>),
   ...);
}

template <template <class> class A, class T>
void forward_block(int64_t n, const double* options, const T* x, T* y) {
  using K = ActivationForward<A<T>, T>;
  leaf_returning<K, T>(K{make_functor<A<T>, T>(options)}, n, y, x);
}
template <template <class> class A, class T>
void backward_block(int64_t n, const double* options, const T* dy, const T* x, T* dx) {
  using K = ActivationBackward<A<T>, T>;
  leaf_returning<K, T>(K{make_functor<A<T>, T>(options)}, n, dx, dy, x);
}
template <class T, template <class> class... A>
constexpr ActivationBlocks<T> blocks_of(List<A...>) {
  return {{&forward_block<A, T>...}, {&backward_block<A, T>...}};
}
constexpr ActivationTable kActivationTable{blocks_of<float>(Activations{}),
                                           blocks_of<double>(Activations{})};

}  // namespace

extern "C" const ActivationTable* ONEPASS_ACTIVATION_TABLE() { return &kActivationTable; }
ONEPASS_END

ONEPASS_CPU_UNIT(activations) {
  using namespace onepass::ONEPASS_ISA;
  add_activations(backend, Activations{});
  backend->dropout = &elementwise<Dropout, kNoGradient>;
  backend->dropout_mask = &dropout_mask;
}
