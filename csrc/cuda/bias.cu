// A bias per channel with what follows it, forward and backward.
#define ONEPASS_ISA cuda
#include "cuda/normalise.cuh"
#include "cuda/units.h"

ONEPASS_CUDA_UNIT(bias) {
  using namespace onepass::ONEPASS_ISA;
  backend->bias_act = &bias_act<true>;
  backend->bias_act_backward = &bias_act<false>;
  backend->channelwise_workspace = &channelwise_workspace;
}
