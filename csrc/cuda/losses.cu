// Losses.
#include "cuda/flushed.h"

#include "cuda/cross_entropy.cuh"
#include "cuda/units.h"

ONEPASS_CUDA_UNIT(losses) {
  using namespace onepass::ONEPASS_ISA;
  backend->cross_entropy = &cross_entropy;
  backend->cross_entropy_workspace = &cross_entropy_workspace;
}
