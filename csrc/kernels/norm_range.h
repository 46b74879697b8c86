// Where the formulas of a norm leave the range of T although inputs and results are finite, and the
// powers of two by which a channel's x and g are multiplied there. A power of two moves exponents
// only: no bit of a result changes that does not underflow.
//
//   x̂ = (x·d - mean·d)·(rstd/d)                      d = kDown
//   dx = [(scale/d)·(g·e - level·e - …)]·(d/e)       e = kGradientDown
//
// The drivers do this for channels that leave_range() or whose sums are beyond kMostSum. All
// others, and all calls in practice, are untouched.
#pragma once
#include "core/basic.h"

ONEPASS_BEGIN

template <class T>
struct NormRange;
template <>
struct NormRange<float> {
  static constexpr float kDown = 0x1p-64f, kUp = 0x1p64f, kGradientDown = 0x1p-40f;
  static constexpr float kLeastRstd = 0x1p-90f, kMostRstd = 0x1p60f, kMostMean = 0x1p120f;
  static constexpr double kMostSum = 0x1p88;
  static constexpr double kMoments = 1;  // their sums are in double, which holds any float's square
};
template <>
struct NormRange<double> {
  static constexpr double kDown = 0x1p-600, kUp = 0x1p600, kGradientDown = 0x1p-100;
  static constexpr double kLeastRstd = 0x1p-900, kMostRstd = 0x1p400, kMostMean = 0x1p1000;
  static constexpr double kMostSum = 0x1p960;
  static constexpr double kMoments = kDown;
};

// x - mean may overflow, or rstd and what is multiplied by it is too small for T.
template <class T>
ONEPASS_HD bool leaves_range(T mean, T rstd, T scale) {
  using Range = NormRange<T>;
  return (rstd < Range::kLeastRstd) | ((math::abs(mean) > Range::kMostMean) &
                                       (math::abs(scale) < T(1)) & (rstd < Range::kMostRstd));
}
// 1/deviation at the top of the range is subnormal. These make it of bits, since arithmetic may
// take it for zero: x·kUp of a subnormal x, and the T that is x·kMoments where that is subnormal.
ONEPASS_HD float lift(float x) {
  const uint32_t bits = math::to_bits(x);
  constexpr double kUnit = 0x1p-149 * double(NormRange<float>::kUp);
  return bits >> math::Format<float>::kMantissa ? x * NormRange<float>::kUp
                                                : float(double(bits) * kUnit);
}
ONEPASS_HD double lift(double x) {
  const uint64_t bits = math::to_bits(x);
  constexpr double kUnit = 0x1p-537 * (0x1p-537 * NormRange<double>::kUp);
  return bits >> math::Format<double>::kMantissa ? x * NormRange<double>::kUp
                                                 : double(bits) * kUnit;
}
template <class T>
ONEPASS_HD T lower(double x) {
  if constexpr (sizeof(T) == 4) {
    if (x < 0x1p-126) return math::from_bits(uint32_t(x * 0x1p149 + 0.5));
    return T(x);
  } else {
    constexpr double kUnits = 0x1p537 * (0x1p537 * NormRange<double>::kMoments);
    if (x < 0x1p-1022 * NormRange<double>::kUp) return math::from_bits(uint64_t(x * kUnits + 0.5));
    return x * NormRange<double>::kMoments;
  }
}
// What normalises x·kDown.
template <class T, class Saved>
ONEPASS_HD Saved in_range(Saved s) {
  using Range = NormRange<T>;
  return {s.mean * Range::kDown, s.lost * Range::kDown, lift(s.rstd)};
}

// Σg and Σ g·x̂ from which g - level - (x - mean)·slope may overflow, and sums that have overflowed.
template <class T>
ONEPASS_HD bool sum_leaves_range(double sum) {
  return !(math::abs(sum) < NormRange<T>::kMostSum);
}

// The factor for x with which the sums of d and d² are taken again, d = x - first; 0 if they are
// right as they are. Squares overflow, or vanish where eps is no larger (d = 0 if `first` is not
// small itself).
template <class T>
ONEPASS_HD double moments_scale(double sum, double squares, double first, double count,
                                double eps) {
  constexpr double kTiny = 0x1p-900, kSmall = 0x1p-390;
  if (!(math::isfinite(sum) && math::isfinite(squares))) return NormRange<T>::kMoments;
  const bool vanish = sizeof(T) == 8 && eps < kTiny && squares < kTiny * count;
  return vanish && math::abs(first) < kSmall ? 1 / NormRange<T>::kMoments : 0;
}
// The moments from the sums of d·scale and (d·scale)². The variance may exceed double, as Inf.
template <class R>
struct MomentsInRange {
  typename R::Saved saved;
  double mean, variance;
};
template <class R>
ONEPASS_HD MomentsInRange<R> moments_in_range(double sum, double squares, double first,
                                              double scale, double part, double eps) {
  using T = decltype(R::Saved::mean);
  const auto m = R::moments(sum, squares, part);
  const auto s = R::save(first * scale, m.offset, m.variance, eps * scale * scale);
  const double back = 1 / scale;
  const T rstd = scale == NormRange<T>::kMoments ? lower<T>(double(s.rstd)) : T(s.rstd * scale);
  return {{T(s.mean * back), T(s.lost * back), rstd},
          (first * scale + m.offset) * back,
          m.variance * back * back};
}

ONEPASS_END
