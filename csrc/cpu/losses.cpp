// Losses of rows.
#include "cpu/cross_entropy.h"
#include "cpu/nll_loss.h"
#include "cpu/unit.h"
#include "cpu/wasserstein.h"

ONEPASS_CPU_UNIT(losses) {
  using namespace onepass::ONEPASS_ISA;
  backend->cross_entropy = &cross_entropy;
  backend->nll_loss = &nll_loss;
  backend->wasserstein_1d = &wasserstein_1d;
}
