// Norms over channels, and the bias, with what follows them, forward and backward.
#include "cpu/normalise.h"
#include "cpu/unit.h"
#include "kernels/channel_norm_list.h"

ONEPASS_BEGIN
namespace {

template <template <class> class... R>
void add_channel_norms(Backend* backend, List<R...>) {
  int index = 0;
  ((backend->channel_norm[index] = &channel_norm<R>,
    backend->channel_norm_backward[index++] = &channel_norm_backward<R>),
   ...);
}

}  // namespace
ONEPASS_END

ONEPASS_CPU_UNIT(normalise) {
  using namespace onepass::ONEPASS_ISA;
  backend->bias_act = &bias_act;
  backend->bias_act_backward = &bias_act_backward;
  add_channel_norms(backend, ChannelNorms{});
}
