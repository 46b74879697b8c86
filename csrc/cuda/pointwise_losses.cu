// Losses of elements.
#define ONEPASS_ISA cuda
#include "cuda/pointwise_loss.cuh"
#include "cuda/units.h"
#include "kernels/loss_table.h"

ONEPASS_CUDA_UNIT(pointwise_losses) {
  using namespace onepass::ONEPASS_ISA;
  add_losses(backend, Losses{});
  backend->pointwise_loss_workspace = &pointwise_loss_workspace;
}
