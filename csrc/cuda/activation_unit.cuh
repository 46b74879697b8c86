// Compiles the activations whose formula is included before it, forward and backward
// (formula.cu.in), and adds them to the tables.
#pragma once
#include "cuda/loops.cuh"
#include "cuda/units.h"
#include "kernels/activation.h"
#include "kernels/activation_list.h"

ONEPASS_BEGIN
namespace {

template <template <class> class A>
void add_activation(Backend* backend, int index) {
  if constexpr (is_defined<A<float>>) {
    backend->activation[index] = &elementwise<Forward<A>::template Kernel, kNoGradient>;
    backend->activation_backward[index] = &elementwise<Backward<A>::template Kernel, kNoGradient>;
  }
}
template <template <class> class... A>
void add_activations(Backend* backend, List<A...>) {
  int index = 0;
  (add_activation<A>(backend, index++), ...);
}

}  // namespace
ONEPASS_END

ONEPASS_CUDA_UNIT(ONEPASS_FORMULA) {
  using namespace onepass::ONEPASS_ISA;
  add_activations(backend, Activations{});
}
