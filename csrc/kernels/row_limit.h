// Scales a row of weights (those of one output) back to a largest norm:
//   w ← w·min(1, max_norm/‖w‖)
// Srebro & Shraibman, Rank, Trace-Norm and Max-Norm, 2005; Hinton et al., Improving neural networks
// by preventing co-adaptation of feature detectors, 2012.
#pragma once
#include "core/squares.h"

ONEPASS_BEGIN

// The lanes in which squares are added, in double: element i of the row in lane i mod kRowLanes.
constexpr int kRowLanes = 32;

// The measure (see squares.h) for a row whose plain squares add up to `plain`.
template <class T>
ONEPASS_HD int row_measure(double plain) {
  if (kMeasures<T> == 1 || is_sound(plain)) return 0;
  return plain > 1 ? 1 : 2;
}

// What the elements of a row are multiplied by: first a power of two, almost always 1, then
// `scale`.
template <class T>
struct RowFactor {
  T power, scale;
  ONEPASS_HD bool is_one() const { return power == T(1) && scale == T(1); }
};
// Of a row whose squares, in a measure, add up to `squares`. One without a finite norm stays.
template <class T>
ONEPASS_HD RowFactor<T> row_factor(double max_norm, double squares, int measure) {
  double power = measure == 0 ? 1 : measure == 1 ? kDown : kUp;
  double norm = math::sqrt(squares);
  if (!(norm > max_norm * power && math::isfinite(norm))) return {T(1), T(1)};
  if (kMeasures<T> == 1 && max_norm < 0x1p-100 * norm) {  // else `scale` may be subnormal
    power = 0x1p-64;
    norm *= power;
  }
  return {T(power), T(max_norm / norm)};
}

template <class T>
ONEPASS_HD T limited(T w, T factor) {
  return w * factor;
}

ONEPASS_END
