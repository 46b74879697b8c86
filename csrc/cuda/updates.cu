// Both passes of an optimizer step: the global norm, and every variant of every rule.
#include "cuda/flushed.h"

#include "cuda/loops.cuh"
#include "cuda/reduce.cuh"
#include "cuda/units.h"
#include "kernels/update_list.h"

ONEPASS_BEGIN
namespace {

// Of updates; other elementwise calls need none.
int64_t elementwise_workspace(const Elementwise& call) {
  constexpr int kOperands = int(most_operands(Updates{}));
  constexpr int64_t kRowBytes = int64_t(longest_row(Updates{}) * sizeof(double));
  const int64_t bytes = table_bound(call.tensors, call.count, sizeof(Entry<kOperands>), kOperands,
                                    kRowBytes, larger(1, call.hyper_rows));
  return bytes <= kSmallTable ? 0 : bytes;  // which travels with the launch
}

}  // namespace
ONEPASS_END

void onepass::cuda::add_updates(Backend* backend) {
  using namespace onepass::ONEPASS_ISA;
  int rule = -1;
  for_each_variant(Updates{}, [&](auto, auto variant) {
    if (variant.on == 0) ++rule;
    backend->update[rule][variant.on] =
        &elementwise<decltype(variant)::template Kernel, kGradientOperand>;
  });
  backend->elementwise_workspace = &elementwise_workspace;
  backend->norm = &norm;
  backend->norm_workspace = &norm_workspace;
}
