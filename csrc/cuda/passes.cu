// The passes of an optimizer step around the update: the global norm, the norms of each tensor that
// diagnostics ask for, the limit of rows.
#include "cuda/flushed.h"

#include "cuda/limit_rows.cuh"
#include "cuda/loops.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tensor_norms.cuh"
#include "cuda/units.h"
#include "kernels/update_list.h"
#include "kernels/watch.h"

ONEPASS_BEGIN
namespace {

// Of updates; other elementwise calls need none.
int64_t table_bytes(const Elementwise& call) {
  constexpr int kOperands = int(most_operands(Updates{})) + kStageOperands;
  constexpr int64_t kRowBytes = int64_t((longest_row(Updates{}) + kStageValues) * sizeof(double));
  return table_bound(call.tensors, call.count, sizeof(Entry<kOperands>), kOperands, kRowBytes,
                     larger(1, call.hyper_rows));
}
int64_t elementwise_workspace(const Elementwise& call) {
  const int64_t bytes = table_bytes(call);
  return bytes <= kSmallTable ? 0 : bytes;  // which travels with the launch
}
int64_t measure_workspace(const Elementwise& call) {
  return tensor_norms::sum_bytes(call, call.norm_count) + table_bytes(call);
}

}  // namespace
ONEPASS_END

ONEPASS_CUDA_UNIT(passes) {
  using namespace onepass::ONEPASS_ISA;
  backend->watch_before =
      &tensor_norms::measure<Variant<WatchBefore, 0>::Measure, kGradientOperand>;
  backend->watch_after = &tensor_norms::measure<Variant<WatchAfter, 0>::Measure, kGradientOperand>;
  backend->measure_workspace = &measure_workspace;
  backend->elementwise_workspace = &elementwise_workspace;
  backend->limit_rows = &limit_rows;
  backend->norm = &norm;
  backend->norm_workspace = &norm_workspace;
}
