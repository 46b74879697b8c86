// The passes of diagnostics (kernels/watch.h).
#include "kernels/watch.h"
#include "cpu/tensor_norms.h"
#include "cpu/unit.h"

ONEPASS_CPU_UNIT(watch) {
  using namespace onepass::ONEPASS_ISA;
  backend->watch_before = &tensor_norms::measure<Variant<WatchBefore, 0>::Measure, onepass::kGrad>;
  backend->watch_after = &tensor_norms::measure<Variant<WatchAfter, 0>::Measure, onepass::kGrad>;
  backend->measure_workspace = &tensor_norms::workspace;
}
