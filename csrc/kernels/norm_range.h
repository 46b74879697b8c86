// A norm's formulas can overflow or underflow in T although inputs and results are finite. For such
// channels and rows the drivers multiply x and g by the powers of two below. Powers of two change
// only exponents, so every bit of a result stays, unless it underflows.
//
//   x̂ = (x·d - mean·d)·(rstd/d)                      d = kDown
//   dx = [(scale/d)·(g·e - level·e - …)]·(d/e)       e = kGradientDown
//
// The drivers scale a channel only if leaves_range() is true or its sums exceed kMostSum. Ordinary
// data never does that.
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
  // Moments are taken again of x itself, but exactly: double holds the square of any float.
  static constexpr double kMoments = 1;
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
// T(x), also where that is subnormal and arithmetic flushes.
ONEPASS_HD float narrowed(double x, float) { return lower<float>(x); }
ONEPASS_HD double narrowed(double x, double) { return x; }
// double(x) of a positive x, likewise.
ONEPASS_HD double widened(float x) {
  const uint32_t bits = math::to_bits(x);
  return bits >> math::Format<float>::kMantissa ? double(x) : double(bits) * 0x1p-149;
}
ONEPASS_HD double widened(double x) { return x; }
// Normalises x·kDown.
template <class T, class Saved>
ONEPASS_HD Saved in_range(Saved s) {
  using Range = NormRange<T>;
  s.mean *= Range::kDown;
  s.lost *= Range::kDown;
  s.rstd = lift(s.rstd);
  return s;
}

// Σg and Σ g·x̂ from which g - level - (x - mean)·slope may overflow, and sums that have overflowed.
template <class T>
ONEPASS_HD bool sum_leaves_range(double sum) {
  return !(math::abs(sum) < NormRange<T>::kMostSum);
}

ONEPASS_END
