// Losses of elements.
#include "cpu/pointwise_loss.h"
#include "cpu/unit.h"
#include "kernels/loss_table.h"

ONEPASS_CPU_UNIT(pointwise_losses) {
  using namespace onepass::ONEPASS_ISA;
  add_losses(backend, Losses{});
  backend->pointwise_loss_workspace = &pointwise_loss_workspace;
}
