#include "bind/channels.h"

#include <functional>
#include <numeric>

namespace onepass::bind {

void set_channels(Border* b, Channelwise* call, int axis) {
  const Array& x = b->first();
  const int d = b->axis(axis);
  call->channels = x.shape[d];
  call->outer = std::accumulate(x.shape, x.shape + d, int64_t(1), std::multiplies<>());
  call->inner = std::accumulate(x.shape + d + 1, x.shape + x.ndim, int64_t(1), std::multiplies<>());
  call->dtype = x.dtype();
  b->set(Shape::channel, {call->channels}, ": one value per channel");
}

}  // namespace onepass::bind
