// Scales a row of weights (those of one output) back to a largest norm:
//   w ← w·min(1, max_norm/‖w‖)
// Srebro & Shraibman, Rank, Trace-Norm and Max-Norm, 2005; Hinton et al., Improving neural networks
// by preventing co-adaptation of feature detectors, 2012.
#pragma once
#include "core/math.h"

ONEPASS_BEGIN

// The lanes in which squares are added, in double: element i of the row in lane i mod kRowLanes.
constexpr int kRowLanes = 32;

// The factor of a row whose squares add up to `squares`. One without a finite norm stays.
ONEPASS_HD double row_scale(double max_norm, double squares) {
  const double norm = math::sqrt(squares);
  return norm > max_norm && math::isfinite(norm) ? max_norm / norm : 1.0;
}

template <class T>
ONEPASS_HD T limited(T w, T factor) {
  return w * factor;
}

ONEPASS_END
