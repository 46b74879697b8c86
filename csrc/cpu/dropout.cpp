// Dropout, alpha dropout, and the mask.
#include "cpu/loops.h"
#include "cpu/mask.h"
#include "cpu/unit.h"

ONEPASS_CPU_UNIT(dropout) {
  using namespace onepass::ONEPASS_ISA;
  backend->dropout = &elementwise<Dropout, kNoGradient>;
  backend->alpha_dropout = &elementwise<AlphaDropout, kNoGradient>;
  backend->alpha_dropout_backward = &elementwise<AlphaDropoutBackward, kNoGradient>;
  backend->dropout_mask = &dropout_mask;
}
