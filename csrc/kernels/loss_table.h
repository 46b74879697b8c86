// Fills Backend::pointwise_loss with what a backend's driver makes of the losses. Included behind
// that driver: pointwise_loss.
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
