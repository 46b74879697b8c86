// Dropout and alpha dropout.
#define ONEPASS_ISA cuda
#include "cuda/loops.cuh"
#include "cuda/units.h"

ONEPASS_CUDA_UNIT(dropout) {
  using namespace onepass::ONEPASS_ISA;
  backend->dropout = &elementwise<Dropout, kNoGradient>;
  backend->alpha_dropout = &elementwise<AlphaDropout, kNoGradient>;
  backend->alpha_dropout_backward = &elementwise<AlphaDropoutBackward, kNoGradient>;
}
