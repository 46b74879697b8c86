// Batch norm with what follows it, forward and backward.
#include "cuda/flushed.h"

#include "cuda/normalise.cuh"
#include "cuda/units.h"

void onepass::cuda::add_batch_norm(Backend* backend) {
  using namespace onepass::ONEPASS_ISA;
  backend->batch_norm = &batch_norm<>;
  backend->batch_norm_backward = &batch_norm_backward<>;
}
