// How much memory the calls of a step need beside their tensors: sizes that follow from the rules
// of all optimizers, so that an edit of one compiles no kernels here.
#include "cuda/flushed.h"

#include "core/stage_row.h"
#include "cuda/tensor_norms.cuh"
#include "cuda/units.h"
#include "kernels/update_list.h"

ONEPASS_BEGIN
namespace {

// The table of an update; other elementwise calls need none.
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

ONEPASS_CUDA_UNIT(workspaces) {
  using namespace onepass::ONEPASS_ISA;
  backend->measure_workspace = &measure_workspace;
  backend->elementwise_workspace = &elementwise_workspace;
}
