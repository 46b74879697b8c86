// Losses of rows.
#include "cuda/flushed.h"

#include "cuda/row_losses.cuh"
#include "cuda/units.h"

ONEPASS_CUDA_UNIT(losses) {
  using namespace onepass::ONEPASS_ISA;
  backend->cross_entropy = &cross_entropy;
  backend->nll_loss = &nll_loss;
  backend->wasserstein_1d = &wasserstein_1d;
  backend->cross_entropy_workspace = &cross_entropy_workspace;
}
