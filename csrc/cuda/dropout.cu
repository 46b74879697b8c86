// Dropout and alpha dropout.
#define ONEPASS_ISA cuda
#include "cuda/loops.cuh"
#include "cuda/units.h"

ONEPASS_BEGIN
namespace {

// Runs of elements share a bit.
template <class T>
struct RepeatedDropout : Dropout<T> {
  static constexpr bool repeats = true;
  static ONEPASS_HD RepeatedDropout of(uint64_t threshold) { return {Dropout<T>::of(threshold)}; }
};
void dropout(const Elementwise& call) {
  call.repeat == 1 ? elementwise<Dropout, kNoGradient>(call)
                   : elementwise<RepeatedDropout, kNoGradient>(call);
}

}  // namespace
ONEPASS_END

ONEPASS_CUDA_UNIT(dropout) {
  using namespace onepass::ONEPASS_ISA;
  backend->dropout = &dropout;
  backend->alpha_dropout = &elementwise<AlphaDropout, kNoGradient>;
  backend->alpha_dropout_backward = &elementwise<AlphaDropoutBackward, kNoGradient>;
}
