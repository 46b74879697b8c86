// How a backend fills Backend::update, ::measure and ::factor, with the functions of its driver:
//
//   struct Driver {
//     template <template <class> class K> static constexpr Run<Elementwise> update();
//     template <template <class> class M> static constexpr Run<Elementwise> measure();
//     template <template <class> class F> static constexpr Run<Elementwise> factor();
//     static int64_t factor_workspace(const Elementwise&);
//   };
#pragma once
#include "core/backend.h"
#include "kernels/update_list.h"

ONEPASS_BEGIN

template <class Driver, class R, size_t... kOn>
const Run<Elementwise>* updates_of(std::index_sequence<kOn...>) {
  static constexpr Run<Elementwise> kVariant[] = {
      Driver::template update<Variant<R, kOn>::template Kernel>()...};
  return kVariant;
}
template <class Driver, class R, size_t... kOn>
const Run<Elementwise>* measures_of(std::index_sequence<kOn...>) {
  if constexpr (R::norms.size == 0) {
    return nullptr;
  } else {
    static constexpr Run<Elementwise> kVariant[] = {
        Driver::template measure<Variant<R, kOn>::template Measure>()...};
    return kVariant;
  }
}
template <class Driver, class R, size_t... kOn>
const Run<Elementwise>* factors_of(std::index_sequence<kOn...>) {
  static constexpr Run<Elementwise> kVariant[] = {
      Driver::template factor<Variant<R, kOn>::template Factor>()...};
  return kVariant;
}
template <class Driver, class R>
void add_update(Backend* backend, int index) {
  if constexpr (is_defined<R>) {
    backend->update[index] = updates_of<Driver, R>(std::make_index_sequence<kVariants<R>>{});
    backend->measure[index] = measures_of<Driver, R>(std::make_index_sequence<kVariants<R>>{});
    if constexpr (R::factors.size > 0) {
      backend->factor[index] = factors_of<Driver, R>(std::make_index_sequence<kVariants<R>>{});
      backend->factor_workspace = &Driver::factor_workspace;
    }
  }
}
// The rules whose headers are included here.
template <class Driver, class... R>
void add_updates(Backend* backend, Rules<R...>) {
  int index = 0;
  (add_update<Driver, R>(backend, index++), ...);
}

ONEPASS_END
