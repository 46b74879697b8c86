// batch_norm: z = (x - mean)·rstd·weight + bias, rstd = 1/√(variance + eps), per channel. In
// training mean and (biased) variance are those of the batch and the running ones move towards it:
//   running = (1 - momentum)·running + momentum·(mean | variance·n/(n - 1))
// Gradients, g = dz, over the n elements of a channel:
//   dbias = Σg;  dweight = Σ g·x̂, x̂ = (x - mean)·rstd
//   dx = weight·rstd·(g - dbias/n - x̂·dweight/n) in training, weight·rstd·g otherwise
// Ioffe & Szegedy, Batch Normalization: Accelerating Deep Network Training, 2015.
//
// Everything per channel is double. What an element meets is of the computing type, so the mean
// travels as `mean` plus what its rounding `lost`: x - mean is exact near the mean and the rest is
// part of a constant, which keeps a small variance around a large mean, and gives exactly the bias
// for a constant channel.
#pragma once
#include "core/math.h"

ONEPASS_BEGIN
namespace batch_norm_formula {

// Mean and variance from the sums over a channel of d and d², d = x - shift; shift is one of its
// elements, and part = 1/n.
struct Moments {
  double offset, variance;  // the mean is shift + offset
};
ONEPASS_HD Moments moments(double sum, double squares, double part) {
  const double offset = sum * part;
  const double variance = (squares - sum * offset) * part;
  return {offset, variance < 0 ? 0 : variance};
}
// variance times this is unbiased.
ONEPASS_HD double bessel(double count) { return count > 1 ? count / (count - 1) : 1; }

// The three rows of BatchNorm::saved.
template <class T>
struct Saved {
  T mean, lost, rstd;
};

// a + b as its rounded value and the rounding error: exact for double (Knuth, TwoSum).
template <class T>
ONEPASS_HD Saved<T> save(double a, double b, double variance, double eps) {
  const double sum = a + b;
  const double back = sum - a;
  const double error = (a - (sum - back)) + (b - back);
  const T mean = T(sum);
  return {mean, T((sum - double(mean)) + error), T(1 / math::sqrt(variance + eps))};
}

ONEPASS_HD double running(double old, double value, double momentum) {
  return (1 - momentum) * old + momentum * value;
}

// z = (x - mean)·scale + shift.
template <class T>
struct Affine {
  T mean, scale, shift;
};
template <class T>
ONEPASS_HD Affine<T> affine(Saved<T> saved, double weight, double bias) {
  const T scale = T(weight * double(saved.rstd));
  return {saved.mean, scale, T(bias - double(saved.lost) * double(scale))};
}
template <class T>
ONEPASS_HD T normalise(T x, T mean, T scale, T shift) {
  return (x - mean) * scale + shift;
}

// The two sums of backward leave x̂'s constant -lost·rstd out: g and g·(x - mean)·rstd.
template <class T>
ONEPASS_HD double dweight(Saved<T> saved, double sum_g, double sum_gx) {
  return sum_gx - double(saved.lost) * double(saved.rstd) * sum_g;
}
// dx = scale·(g - level - (x - mean)·slope).
template <class T>
struct Correction {
  T level, slope;
};
template <class T>
ONEPASS_HD Correction<T> correction(Saved<T> saved, double dbias, double dweight, double part) {
  const double slope = dweight * part * double(saved.rstd);
  return {T(dbias * part - double(saved.lost) * slope), T(slope)};
}
template <class T>
ONEPASS_HD T input_gradient(T g, T x, T mean, T scale, T level, T slope) {
  return scale * (g - level - (x - mean) * slope);
}

}  // namespace batch_norm_formula
ONEPASS_END
