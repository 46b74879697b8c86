// wasserstein_1d: l = Σ_k |D_k| with D_k = Σ_{j <= k} (x_j − t_j), the difference of the cumulative
// sums of two histograms; dl/dx_j = Σ_{k >= j} sign(D_k), the sign of 0 being 0. D is added in
// double.
// Vaserstein, Markov Processes over Denumerable Products of Spaces, 1969; for histograms on a line
// it is the earth mover's distance in units of bins.
#pragma once
#include "core/math.h"

ONEPASS_BEGIN
namespace wasserstein_formula {

// Moves D to the next bin.
template <class T>
ONEPASS_HD double next(double difference, T x, T t) {
  return difference + (double(x) - double(t));
}
ONEPASS_HD double distance(double difference) { return math::abs(difference); }
// 1, 0, -1, or NaN; it waits in the place of the gradient.
template <class T>
ONEPASS_HD T direction(double d) {
  return d > 0 ? T(1) : d < 0 ? T(-1) : T(d);
}

}  // namespace wasserstein_formula
ONEPASS_END
