// Dropout, alpha dropout, and the mask.
#define ONEPASS_ISA cuda
#include "cuda/dropout_mask.cuh"
#include "cuda/loops.cuh"
#include "cuda/units.h"

ONEPASS_BEGIN
namespace {

// Runs of elements share a bit, or the bits begin anywhere.
template <template <class> class K>
struct Repeated {
  template <class T>
  struct Of : K<T> {
    static constexpr bool repeats = true;
    static ONEPASS_HD Of of(uint64_t threshold) { return {K<T>::of(threshold)}; }
  };
};
template <template <class> class K>
void drop(const Elementwise& call) {
  const bool plain = call.repeat == 1 && begins_with_group(call.random);
  plain ? elementwise<K, kNoGradient>(call)
        : elementwise<Repeated<K>::template Of, kNoGradient>(call);
}

template <class = void>
__global__ void __launch_bounds__(1) take_kernel(uint64_t* count, uint64_t* taken) {
  *taken = *count;
  ++*count;
}
void take_number(const TakeNumber& call) {
  start<1>(&take_kernel<>, 1, static_cast<cudaStream_t>(call.stream), call.count, call.taken);
}

}  // namespace
ONEPASS_END

ONEPASS_CUDA_UNIT(dropout) {
  using namespace onepass::ONEPASS_ISA;
  backend->dropout = &drop<Dropout>;
  backend->alpha_dropout = &drop<AlphaDropout>;
  backend->alpha_dropout_backward = &drop<AlphaDropoutBackward>;
  backend->dropout_mask = &dropout_mask;
  backend->take_number = &take_number;
}
