// Batch norm and bias with what follows them, forward and backward.
#include "cpu/normalise.h"
#include "cpu/unit.h"

ONEPASS_CPU_UNIT(normalise) {
  using namespace onepass::ONEPASS_ISA;
  backend->bias_act = &bias_act;
  backend->bias_act_backward = &bias_act_backward;
  backend->batch_norm = &batch_norm;
  backend->batch_norm_backward = &batch_norm_backward;
}
