// Compiles every variant of the optimizers whose rule is included before it (formula.cu.in), and
// adds them to the table.
#pragma once
#include "cuda/loops.cuh"
#include "cuda/tensor_norms.cuh"
#include "cuda/units.h"
#include "kernels/update_list.h"

ONEPASS_BEGIN
namespace {

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
template <class R>
void add_update(Backend* backend, int index) {
  if constexpr (is_defined<R>) {
    backend->update[index] = variants_of<R>(std::make_index_sequence<kVariants<R>>{});
    backend->measure[index] = measures_of<R>(std::make_index_sequence<kVariants<R>>{});
  }
}
template <class... R>
void add_updates(Backend* backend, Rules<R...>) {
  int index = 0;
  (add_update<R>(backend, index++), ...);
}

}  // namespace
ONEPASS_END

ONEPASS_CUDA_UNIT(ONEPASS_FORMULA) {
  using namespace onepass::ONEPASS_ISA;
  add_updates(backend, Updates{});
}
