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

template <class R, size_t... kOn>
const Run<Elementwise>* variants_of(std::index_sequence<kOn...>) {
  static constexpr Run<Elementwise> kVariant[] = {
      &elementwise<Variant<R, kOn>::template Kernel, kGradientOperand>...};
  return kVariant;
}
template <class... R>
void fill(Backend* backend, Rules<R...>) {
  int index = 0;
  ((backend->update[index++] = variants_of<R>(std::make_index_sequence<kVariants<R>>{})), ...);
}

}  // namespace
ONEPASS_END

void onepass::cuda::add_updates(Backend* backend) {
  using namespace onepass::ONEPASS_ISA;
  fill(backend, Updates{});
  backend->elementwise_workspace = &elementwise_workspace;
  backend->norm = &norm;
  backend->norm_workspace = &norm_workspace;
}
