// Norms over channels with what follows them, forward and backward.
#include "cuda/flushed.h"

#include "cuda/normalise.cuh"
#include "cuda/units.h"
#include "kernels/channel_norm_list.h"

namespace {

template <template <class> class... R>
void add(onepass::Backend* backend, onepass::ONEPASS_ISA::List<R...>) {
  using namespace onepass::ONEPASS_ISA;
  int index = 0;
  ((backend->channel_norm[index] = &channel_norm<R, true>,
    backend->channel_norm_backward[index++] = &channel_norm<R, false>),
   ...);
}

}  // namespace

ONEPASS_CUDA_UNIT(channel_norms) { add(backend, ONEPASS_ISA::ChannelNorms{}); }
