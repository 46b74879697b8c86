// Norms over channels with what follows them, forward and backward.
#include "cuda/flushed.h"

#include "cuda/normalise.cuh"
#include "cuda/units.h"
#include "kernels/channel_norm_table.h"

ONEPASS_CUDA_UNIT(channel_norms) {
  using namespace onepass::ONEPASS_ISA;
  add_norms(backend, ChannelNorms{});
}
