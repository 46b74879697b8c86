// Activations, forward and backward, and dropout.
#define ONEPASS_ISA cuda
#include "cuda/loops.cuh"
#include "cuda/units.h"
#include "kernels/activation_list.h"

ONEPASS_BEGIN
namespace {

template <template <class> class... A>
void fill(Backend* backend, List<A...>) {
  int index = 0;
  ((backend->activation[index] = &elementwise<Forward<A>::template Kernel, kNoGradient>,
    backend->activation_backward[index++] =
        &elementwise<Backward<A>::template Kernel, kNoGradient>),
   ...);
}

}  // namespace
ONEPASS_END

void onepass::cuda::add_activations(Backend* backend) {
  using namespace onepass::ONEPASS_ISA;
  fill(backend, Activations{});
  backend->dropout = &elementwise<Dropout, kNoGradient>;
}
