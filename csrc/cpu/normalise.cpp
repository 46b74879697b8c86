// Norms over channels, and the bias, with what follows them, forward and backward.
#include "cpu/normalise.h"
#include "cpu/unit.h"
#include "kernels/channel_norm_table.h"

ONEPASS_CPU_UNIT(normalise) {
  using namespace onepass::ONEPASS_ISA;
  backend->bias_act = &bias_act;
  backend->bias_act_backward = &bias_act_backward;
  add_norms(backend, ChannelNorms{});
}
