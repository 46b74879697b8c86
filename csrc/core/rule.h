// An optimizer with n optional states is one rule, and 2^n kernels follow from it:
//
//   struct Lion : Rule {
//     name, hyper      of the optimizer; if the last of `hyper` is "step", the driver passes each
//                      parameter's own step count there, 1 on its first step
//     operands         params, grads and the required states
//     optional         the states that the caller may leave out
//     scalars, starts  the numbers that each parameter carries beside its step count, in double,
//                      and their values before the first step
//     static void advance(double* scalars, double… hyper)    takes them to the step in `hyper`
//     advances_first   whether that comes before the kernel is made, or after the step
//     norms            the 2-norms of each tensor that Kernel needs, by name
//     factors          none; or the states of rows, of columns and of vectors, see below
//     template <class T, class... S> struct Kernel   // one S for each optional state: T& or Absent
//     template <class T, class... S> struct Measure  // of a rule with norms
//     template <class T> struct Factor               // of a rule with factors
//   };
//
// Kernel's constructor takes `hyper`, then the scalars as `advance` leaves them (or as it finds
// them, without advances_first), all as doubles; likewise Measure's. Measure runs before Kernel
// over the same tensors: for each element it returns a value for each norm (Terms), and it may
// write states. Kernel::take(norms) follows, for each tensor; operands that Kernel has no use for
// are Unread.
//
// A rule with factors keeps, of a tensor with two axes or more, a value for each row and one for
// each column of its matrices, those of the last two axes; of others a value for each element. A
// pass of its own comes first (core/factors.h): Factor::operator()(held, mean) is the next value,
// where `mean` is of the gradient's squares along the row or column. Kernel and Measure then have
// two operands more behind the others, for each element: the row's value over
// Factor::level(the mean of those of its matrix), and the column's value. Of a tensor without
// matrices these are the element's own value and 1.
//
// A functor with see(size, dtype) is shown the elements of each tensor and its parameter's dtype.
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

// The step at which a rule counts is the last of its own hyper-parameters; its scalars follow.
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

// What the decoupled weight decay of an update multiplies a parameter by, before the rest is
// subtracted: T kept() const of its Kernel; 1 where there is none.
template <class K, class = void>
constexpr bool kDecays = false;
template <class K>
constexpr bool kDecays<K, std::void_t<decltype(std::declval<const K&>().kept())>> = true;
template <class T, class K>
ONEPASS_HD T kept_by(const K& k) {
  static_assert(!contains(K::rule::hyper, "decoupled_weight_decay") || kDecays<K>,
                "a rule with a decoupled weight decay says what it keeps: T kept() const");
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
