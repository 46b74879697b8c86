// Fills Backend::pointwise_loss for every loss. Include the backend's driver, which defines
// pointwise_loss(), first.
#pragma once
#include "kernels/loss_list.h"

ONEPASS_BEGIN
namespace {

template <template <class> class... L>
void add_losses(Backend* backend, List<L...>) {
  int index = 0;
  ((backend->pointwise_loss[index++] = &pointwise_loss<L>), ...);
}

}  // namespace
ONEPASS_END
