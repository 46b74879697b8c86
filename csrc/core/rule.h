// An optimizer with n optional states is one rule, and 2^n kernels follow from it:
//
//   struct Rule {
//     name, hyper      of the optimizer
//     operands         params, grads and the states that are always there
//     optional         the states that the caller may do without
//     template <class T, class... S> struct Kernel   // one S for each optional state: T& or Absent
//   };
//
// Kernel's constructor takes the hyper-parameters, as doubles, in the order of `hyper`.
#pragma once
#include "core/signature.h"

ONEPASS_BEGIN

template <class... R>
struct Rules {};

// The kernel of a rule that has optional state i where bit i of kOn is set. Drivers take Kernel.
template <class R, size_t kOn, class = std::make_index_sequence<R::optional.size>>
struct Variant;
template <class R, size_t kOn, size_t... I>
struct Variant<R, kOn, std::index_sequence<I...>> {
  static constexpr size_t on = kOn;
  template <class T>
  struct Kernel : R::template Kernel<T, std::conditional_t<(kOn >> I & 1) != 0, T&, Absent>...> {
    using Base =
        typename R::template Kernel<T, std::conditional_t<(kOn >> I & 1) != 0, T&, Absent>...>;
    static constexpr auto hyper = R::hyper;
    using Base::Base;
  };
};

template <class R>
constexpr size_t kVariants = size_t(1) << R::optional.size;

// f(rule, variant) for every rule and every choice of its optional states, in the order of
// Backend::update: a rule's variants stand together, the one without optional states first.
template <class R, class F, size_t... kOn>
constexpr void for_variants(F f, std::index_sequence<kOn...>) {
  (f(R{}, Variant<R, kOn>{}), ...);
}
template <class F, class... R>
constexpr void for_each_variant(Rules<R...>, F f) {
  (for_variants<R>(f, std::make_index_sequence<kVariants<R>>{}), ...);
}

ONEPASS_END
