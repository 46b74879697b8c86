// An optimizer is a rule. A rule with n optional states gives 2^n kernels:
//
//   struct Lion : Rule {
//     name, hyper      the optimizer's name and hyper-parameters; if the last of `hyper` is "step",
//                      the driver passes each parameter's own step count there, 1 on its first step
//     operands         params, grads and the required states
//     optional         the states that the caller may leave out
//     scalars, starts  further numbers of each parameter, in double, and their initial values
//     static void advance(double* scalars, double… hyper)    moves them to the step in `hyper`
//     advances_first   true: advance() runs before Kernel is constructed; false: after the step
//     norms            the names of the 2-norms of each tensor that Kernel needs
//     factors          none; or the states of rows, of columns and of vectors, see below
//     template <class T, class... S> struct Kernel {  // one S for each optional state: T& or
//     Absent
//       Kernel(double… hyper, double… scalars)
//       void operator()(T& p, T g, T& state…, S state…) const    updates one element
//       T kept() const                the factor of a decoupled weight decay, see below
//       void take(const double*)      of a rule with norms: those of the tensor
//       void see(int64_t, DType)      if it is there: the tensor's size and its parameter's dtype
//     };
//     template <class T, class... S> struct Measure  // of a rule with norms; see() likewise
//     template <class T> struct Factor {             // of a rule with factors; see() likewise
//       T operator()(T held, double mean) const
//       double level(double mean) const
//     };
//   };
//
// A rule with a weight decay says what it leaves of a parameter: kept() is the factor by which the
// update multiplies the parameter before it subtracts the rest, 1 where the decay is part of the
// gradient. `cautious` holds back the rest alone.
//
// The constructors of Kernel and Measure take `hyper`, then the scalars, all as doubles. Measure
// runs before Kernel over the same tensors. For each element it returns one value per norm (Terms),
// and it may write states. The driver then passes the norms of each tensor to Kernel::take(norms).
// An operand that Kernel does not use has the type Unread. Kernel clamps as kernels/gradient.h
// does: nested math::min and math::max do not vectorise.
//
// A rule with factors treats a tensor of two or more axes as matrices over the last two axes, and
// keeps one value for each row and one for each column; for any other tensor it keeps one value for
// each element. A separate pass runs first (core/factors.h): Factor::operator()(held, mean) returns
// the next value, where `mean` is the mean square of the gradient along the row or column. Kernel
// and Measure then take two more operands at the end: the row's value divided by Factor::level(mean
// of the row values of its matrix), and the column's value. For a tensor without matrices they are
// the element's own value and 1.
#pragma once
#include "core/dtype.h"
#include "core/signature.h"

ONEPASS_BEGIN

// The defaults of a rule.
struct Rule {
  static constexpr auto optional = names();
  static constexpr auto scalars = names();
  static constexpr double starts[] = {0};
  static constexpr auto norms = names();
  static constexpr auto factors = names();
  static constexpr bool advances_first = true;
};

template <class... R>
struct Rules {};

template <class... R>
constexpr int count_of(Rules<R...>) {
  return int(sizeof...(R));
}

// The kernel of a rule that has optional state i where bit i of kOn is set. Drivers take Kernel.
template <class R, size_t kOn, class = std::make_index_sequence<R::optional.size>>
struct Variant;
template <class R, size_t kOn, size_t... I>
struct Variant<R, kOn, std::index_sequence<I...>> {
  static constexpr size_t on = kOn;
  template <class T, size_t i>
  using State = std::conditional_t<(kOn >> i & 1) != 0, T&, Absent>;
  template <class T>
  struct Kernel : R::template Kernel<T, State<T, I>...> {
    using Base = typename R::template Kernel<T, State<T, I>...>;
    using rule = R;
    static constexpr auto hyper = joined(R::hyper, R::scalars);  // what the constructor takes
    static constexpr size_t norms = R::norms.size;               // what take() takes
    // Not inherited: an inherited constructor is not inlined, and becomes a symbol.
    template <class... H>
    ONEPASS_HD explicit Kernel(H... values) : Base(values...) {}
  };
  template <class T>
  struct Measure : R::template Measure<T, State<T, I>...> {
    using Base = typename R::template Measure<T, State<T, I>...>;
    using rule = R;
    static constexpr auto hyper = joined(R::hyper, R::scalars);
    template <class... H>
    ONEPASS_HD explicit Measure(H... values) : Base(values...) {}
  };
  template <class T>
  struct Factor : R::template Factor<T> {
    using Base = typename R::template Factor<T>;
    using rule = R;
    static constexpr auto hyper = joined(R::hyper, R::scalars);
    template <class... H>
    ONEPASS_HD explicit Factor(H... values) : Base(values...) {}
  };
};

template <class K, class = void>
constexpr bool kSees = false;
template <class K>
constexpr bool kSees<K, std::void_t<decltype(std::declval<K&>().see(int64_t(), DType()))>> = true;
// Shows a functor its tensor.
template <class K>
ONEPASS_HD void show(K* k, int64_t size, DType dtype) {
  if constexpr (kSees<K>) k->see(size, dtype);
}

// How many norms of its tensor a functor takes.
template <class K, class = void>
constexpr size_t kNorms = 0;
template <class K>
constexpr size_t kNorms<K, std::void_t<decltype(K::norms)>> = K::norms;

template <class R>
constexpr size_t kVariants = size_t(1) << R::optional.size;

// A rule's step is the last of its own hyper-parameters; its scalars follow.
template <class R>
constexpr bool kCountsSteps = last_is_step(R::hyper);
template <class R>
constexpr size_t kScalars = R::scalars.size;

// Takes the scalars at the end of a row, [hyper…, step, scalars…], to the step of that row.
template <class R, size_t... I>
ONEPASS_HD void advance(double* row, std::index_sequence<I...>) {
  R::advance(row + R::hyper.size, row[I]...);
}
template <class R>
ONEPASS_HD void advance(double* row) {
  static_assert(kCountsSteps<R> || kScalars<R> == 0, "a rule with scalars counts steps");
  static_assert(sizeof(R::starts) / sizeof(double) >= kScalars<R>, "a start for each scalar");
  if constexpr (kScalars<R> > 0) advance<R>(row, std::make_index_sequence<R::hyper.size>{});
}

// kept() of a rule with a weight decay, else 1.
template <class K, class = void>
constexpr bool kDecays = false;
template <class K>
constexpr bool kDecays<K, std::void_t<decltype(std::declval<const K&>().kept())>> = true;
template <class T, class K>
ONEPASS_HD T kept_by(const K& k) {
  static_assert(!contains(K::rule::hyper, "weight_decay") || kDecays<K>,
                "a rule with a weight decay says what it keeps: T kept() const { return T(1); } "
                "where the decay is part of the gradient");
  if constexpr (kDecays<K>) {
    return k.kept();
  } else {
    return T(1);
  }
}

// f(rule, variant) for every rule of the list and every choice of its optional states: a rule's
// variants stand together, the one without optional states first.
template <class R, class F, size_t... kOn>
constexpr void for_variants(F f, std::index_sequence<kOn...>) {
  (f(R{}, Variant<R, kOn>{}), ...);
}
template <class F, class... R>
constexpr void for_each_variant(Rules<R...>, F f) {
  (for_variants<R>(f, std::make_index_sequence<kVariants<R>>{}), ...);
}

// The largest number over the rules of a list.
constexpr size_t larger_of(size_t a, size_t b) { return a > b ? a : b; }
template <class... R>
constexpr size_t most_operands(Rules<R...>) {
  size_t most = 0;
  ((most = larger_of(most, R::operands.size + R::optional.size + R::factors.size)), ...);
  return most;
}
template <class... R>
constexpr size_t longest_row(Rules<R...>) {
  size_t most = 0;
  ((most = larger_of(most, R::hyper.size + R::scalars.size)), ...);
  return most;
}

ONEPASS_END
