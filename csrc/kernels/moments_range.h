// A norm's moments where the sums of a channel or row leave the range of double: taken again of x
// times a power of two.
#pragma once
#include "kernels/norm_range.h"

ONEPASS_BEGIN

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
// The same of a row. A norm of rows may have no eps, and then sums of floats whose squares vanish
// are taken again too, each square in double.
template <class T>
ONEPASS_HD double row_moments_scale(double sum, double squares, double first, double count,
                                    double eps) {
  constexpr double kTiny = 0x1p-100, kSmall = 0x1p-80;
  if (sizeof(T) == 4 && eps < kTiny && squares < kSmall * count) return NormRange<T>::kMoments;
  return moments_scale<T>(sum, squares, first, count, eps);
}

// The statistics of x from those of x·scale.
template <class T, class Saved>
ONEPASS_HD Saved unscaled(Saved s, double scale) {
  if (scale == 1) return s;
  const double back = 1 / scale;
  const T rstd = scale == NormRange<T>::kMoments ? lower<T>(double(s.rstd)) : T(s.rstd * scale);
  s.mean = T(s.mean * back);
  s.lost = T(s.lost * back);
  s.rstd = rstd;
  return s;
}

// Of a row, by rule R: from the sums of d·scale and (d·scale)².
template <class R>
ONEPASS_HD typename R::Saved row_of_scaled(double sum, double squares, double first, double scale,
                                           double part, double eps) {
  using T = decltype(R::Saved::mean);
  const auto s = R::save(sum, squares, first * scale, part, eps * scale * scale);
  return unscaled<T>(s, scale);
}

// Mean and variance of x from the sums of d·scale and (d·scale)². The variance may exceed double,
// as Inf.
struct Moments {
  double mean, variance;
};
template <class R>
ONEPASS_HD Moments moments_of_scaled(double sum, double squares, double first, double scale,
                                     double part) {
  const auto m = R::moments(sum, squares, part);
  const double back = 1 / scale;
  return {(first * scale + m.offset) * back, m.variance * back * back};
}

// The same of a channel, with its statistics.
template <class R>
struct MomentsInRange {
  typename R::Saved saved;
  double mean, variance;
};
// From the mean a + b and the variance of x·scale,
template <class R>
ONEPASS_HD MomentsInRange<R> statistics_of_scaled(double a, double b, double variance, double scale,
                                                  double eps) {
  using T = decltype(R::Saved::mean);
  const auto s = R::save(a, b, variance, eps * scale * scale);
  const double back = 1 / scale;
  return {unscaled<T>(s, scale), (a + b) * back, variance * back * back};
}
// and from the sums.
template <class R>
ONEPASS_HD MomentsInRange<R> moments_in_range(double sum, double squares, double first,
                                              double scale, double part, double eps) {
  const auto m = R::moments(sum, squares, part);
  return statistics_of_scaled<R>(first * scale, m.offset, m.variance, scale, eps);
}

ONEPASS_END
