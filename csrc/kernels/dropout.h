// dropout: y = x·scale if the element's keep bit is set, else 0; scale = 1/(1 - p). It selects and
// never multiplies by zero, so that p = 1 gives zeros for Inf too. The backward is the same
// function of dy. Bits depend only on (seed, offset, element index): core/philox.h. Srivastava et
// al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014.
//
// alpha_dropout: y = a·x + b if it is set, else a·α' + b, with α' = -λα, the lower limit of SELU.
// Of mean 0 and variance 1 y has them too: a = ((α'²·q + 1)·(1 - q))^-½, b = -a·α'·q, q = p as
// rounded. Klambauer et al., Self-Normalizing Neural Networks, 2017.
//
// Functors that draw are made from the threshold of core/philox.h.
#pragma once
#include "core/math.h"
#include "core/philox.h"
#include "core/signature.h"

ONEPASS_BEGIN

// Functors mask bits: GCC turns a conditional into a branch around the load, and the loop stays
// scalar.
template <class T>
ONEPASS_HD auto mask_of(Keep keep) {
  using Bits = typename math::Format<T>::Bits;
  return Bits(std::make_signed_t<Bits>(keep.mask));
}
template <class T>
ONEPASS_HD T kept_or_zero(T value, Keep keep) {
  using Bits = typename math::Format<T>::Bits;
  return math::from_bits(Bits(math::to_bits(value) & mask_of<T>(keep)));
}

template <class T>
struct Dropout {
  static constexpr const char* name = "dropout";
  static constexpr auto operands = names("out", "x");
  static constexpr auto hyper = names();
  T scale;
  static ONEPASS_HD Dropout of(uint64_t threshold) { return {dropout_scale<T>(threshold)}; }
  ONEPASS_HD T operator()(T x, Keep keep) const { return kept_or_zero(x * scale, keep); }
};

struct AlphaScale {
  static constexpr double kAlpha = 1.7580993408473766;  // -α'
  double a, b, dropped;

  static ONEPASS_HD AlphaScale of(uint64_t threshold) {
    const double q = double(threshold) * 0x1p-32, rest = 1 - q;  // exact
    if (rest == 0) return {0, 0, 0};
    const double a = 1 / math::sqrt((kAlpha * kAlpha * q + 1) * rest);
    return {a, a * kAlpha * q, -a * kAlpha * rest};
  }
};

template <class T>
struct AlphaDropout {
  static constexpr const char* name = "alpha_dropout";
  static constexpr auto operands = names("out", "x");
  static constexpr auto hyper = names();
  T a, b, dropped;
  static ONEPASS_HD AlphaDropout of(uint64_t threshold) {
    const AlphaScale s = AlphaScale::of(threshold);
    return {T(s.a), T(s.b), T(s.dropped)};
  }
  ONEPASS_HD T operator()(T x, Keep keep) const {
    using Bits = typename math::Format<T>::Bits;
    const Bits mask = mask_of<T>(keep);
    return math::from_bits(
        Bits((math::to_bits(a * x + b) & mask) | (math::to_bits(dropped) & ~mask)));
  }
};

// dx = a·dy if the bit is set, else 0.
template <class T>
struct AlphaDropoutBackward {
  static constexpr const char* name = "alpha_dropout_backward";
  static constexpr auto operands = names("out", "dy");
  static constexpr auto hyper = names();
  T a;
  static ONEPASS_HD AlphaDropoutBackward of(uint64_t threshold) {
    return {T(AlphaScale::of(threshold).a)};
  }
  ONEPASS_HD T operator()(T dy, Keep keep) const { return kept_or_zero(dy * a, keep); }
};

ONEPASS_END
