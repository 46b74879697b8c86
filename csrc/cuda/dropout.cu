// Dropout.
#define ONEPASS_ISA cuda
#include "cuda/loops.cuh"
#include "cuda/units.h"

ONEPASS_CUDA_UNIT(dropout) {
  using namespace onepass::ONEPASS_ISA;
  backend->dropout = &elementwise<Dropout, kNoGradient>;
}
