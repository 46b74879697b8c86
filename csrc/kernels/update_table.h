// Fills Backend::update, ::measure and ::factor for every rule whose header is included. Include
// the backend's drivers first: elementwise(), tensor_norms::measure() and factors::factor().
#pragma once
#include "core/backend.h"
#include "kernels/update_list.h"

ONEPASS_BEGIN
namespace {

template <class R, size_t... kOn>
const Run<Elementwise>* updates_of(std::index_sequence<kOn...>) {
  static constexpr Run<Elementwise> kVariant[] = {
      &elementwise<Variant<R, kOn>::template Kernel, kGrad>...};
  return kVariant;
}
template <class R, size_t... kOn>
const Run<Elementwise>* measures_of(std::index_sequence<kOn...>) {
  static constexpr Run<Elementwise> kVariant[] = {
      &tensor_norms::measure<Variant<R, kOn>::template Measure, kGrad>...};
  return kVariant;
}
template <class R, size_t... kOn>
const Run<Elementwise>* factors_of(std::index_sequence<kOn...>) {
  static constexpr Run<Elementwise> kVariant[] = {
      &factors::factor<Variant<R, kOn>::template Factor>...};
  return kVariant;
}
template <class R>
void add_update(Backend* backend, int index) {
  if constexpr (is_defined<R>) {
    constexpr auto kOn = std::make_index_sequence<kVariants<R>>{};
    backend->update[index] = updates_of<R>(kOn);
    if constexpr (R::norms.size > 0) backend->measure[index] = measures_of<R>(kOn);
    if constexpr (R::factors.size > 0) {
      backend->factor[index] = factors_of<R>(kOn);
      backend->factor_workspace = &factors::workspace;
    }
  }
}
// The rules whose headers are included here.
template <class... R>
void add_updates(Backend* backend, Rules<R...>) {
  int index = 0;
  (add_update<R>(backend, index++), ...);
}

}  // namespace
ONEPASS_END
