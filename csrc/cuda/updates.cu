// All passes of an optimizer step: the global norm, the norms of each tensor, and every variant of
// every rule.
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

template <class R, size_t... kOn>
const Run<Elementwise>* variants_of(std::index_sequence<kOn...>) {
  static constexpr Run<Elementwise> kVariant[] = {
      &elementwise<Variant<R, kOn>::template Kernel, kGradientOperand>...};
  return kVariant;
}
template <class R, size_t... kOn>
const Run<Elementwise>* measures_of(std::index_sequence<kOn...>) {
  if constexpr (R::norms.size == 0) {
    return nullptr;
  } else {
    static constexpr Run<Elementwise> kVariant[] = {
        &tensor_norms::measure<Variant<R, kOn>::template Measure, kGradientOperand>...};
    return kVariant;
  }
}
template <class... R>
void fill(Backend* backend, Rules<R...>) {
  int index = 0;
  ((backend->update[index] = variants_of<R>(std::make_index_sequence<kVariants<R>>{}),
    backend->measure[index++] = measures_of<R>(std::make_index_sequence<kVariants<R>>{})),
   ...);
}

}  // namespace
ONEPASS_END

void onepass::cuda::add_updates(Backend* backend) {
  using namespace onepass::ONEPASS_ISA;
  fill(backend, Updates{});
  backend->watch_before =
      &tensor_norms::measure<Variant<WatchBefore, 0>::Measure, kGradientOperand>;
  backend->watch_after = &tensor_norms::measure<Variant<WatchAfter, 0>::Measure, kGradientOperand>;
  backend->measure_workspace = &measure_workspace;
  backend->elementwise_workspace = &elementwise_workspace;
  backend->limit_rows = &limit_rows;
  backend->norm = &norm;
  backend->norm_workspace = &norm_workspace;
}
