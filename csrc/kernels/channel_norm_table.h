// Fills Backend::channel_norm and ::channel_norm_backward with what a backend's driver makes of the
// rules. Included behind that driver: channel_norm and channel_norm_backward.
#pragma once
#include "kernels/channel_norm_list.h"

ONEPASS_BEGIN
namespace {

template <template <class> class... R>
void add_norms(Backend* backend, List<R...>) {
  int index = 0;
  ((backend->channel_norm[index] = &channel_norm<R>,
    backend->channel_norm_backward[index++] = &channel_norm_backward<R>),
   ...);
}

}  // namespace
ONEPASS_END
