// batch_norm: z = (x - mean)·rstd·weight + bias, rstd = 1/√(variance + eps), per channel.
// In training mean and (biased) variance are the batch's, and the running statistics move to them:
//   running = (1 - momentum)·running + momentum·(mean | variance·n/(n - 1))
// Gradients over the n elements of a channel, g = dz and x̂ = (x - mean)·rstd:
//   dbias = Σg;  dweight = Σ g·x̂
//   dx = weight·rstd·(g - dbias/n - x̂·dweight/n) in training, weight·rstd·g otherwise
// Ioffe & Szegedy, Batch Normalization: Accelerating Deep Network Training, 2015.
//
// Values per channel are double, values per element the computing type T. The mean is therefore
// stored as `mean`, rounded to T, plus the rounding error `lost`. x - mean is exact near the mean,
// and the error goes into a constant. This keeps a small variance around a large mean, and a
// constant channel gives exactly its bias.
#pragma once
#include "core/list.h"
#include "core/product_error.h"

ONEPASS_BEGIN

template <class T>
struct BatchNormRule {
  static constexpr const char* name = "batch_norm";
  static constexpr bool kScales = true;         // z has a mean and a scale; else it is a bias
  static constexpr bool kRenormalises = false;  // the running statistics too shape z in training
  // The rule whose normalise(), product() and input_gradient() are these: passes over elements are
  // compiled for it.
  using Elements = BatchNormRule;

  // Mean and variance from the channel's sums of d and d², where d = x - shift, shift is one of its
  // elements and part = 1/n.
  struct Moments {
    double offset, variance;  // the mean is shift + offset
  };
  static ONEPASS_HD Moments moments(double sum, double squares, double part) {
    const double offset = sum * part;
    const double variance = (squares - sum * offset) * part;
    return {offset, variance < 0 ? 0 : variance};
  }
  // The factor n/(n - 1) that makes a variance unbiased.
  static ONEPASS_HD double bessel(double count) { return count > 1 ? count / (count - 1) : 1; }

  // A channel's values in ChannelNorm::saved, whose rows begin with these three in every rule.
  struct Saved {
    T mean, lost, rstd;
  };
  using Rows = Members<&Saved::mean, &Saved::lost, &Saved::rstd>;

  // The mean a + b as its rounded value and the rounding error: exact for double.
  static ONEPASS_HD Saved save(double a, double b, double variance, double eps) {
    const double sum = a + b;
    const T mean = T(sum);
    return {mean, T((sum - double(mean)) + math::sum_error(a, b, sum)),
            T(1 / math::sqrt(variance + eps))};
  }

  // A momentum of 0 keeps `old` whatever the batch has, an Inf or NaN too.
  static ONEPASS_HD double running(double old, double value, double momentum) {
    return momentum == 0 ? old : (1 - momentum) * old + momentum * value;
  }

  // z = (x - mean)·scale + shift.
  struct Affine {
    T mean, scale, shift;
  };
  static ONEPASS_HD Affine affine(Saved saved, double weight, double bias) {
    const T scale = T(weight * double(saved.rstd));
    return {saved.mean, scale, T(bias - double(saved.lost) * double(scale))};
  }
  static ONEPASS_HD T normalise(T x, T mean, T scale, T shift) {
    return (x - mean) * scale + shift;
  }

  // One term of Σ g·x̂, without x̂'s constant -lost·rstd; gradients() adds that to the sum.
  static ONEPASS_HD T product(T g, T x, T mean, T rstd) { return g * ((x - mean) * rstd); }
  // From the sums of g and of products: dweight, and dx = scale·(g - level - (x - mean)·slope).
  struct Gradients {
    double dweight;
    T level, slope;
  };
  static ONEPASS_HD Gradients gradients(Saved saved, double sum_g, double sum_gx, double part) {
    const double dweight = sum_gx - double(saved.lost) * double(saved.rstd) * sum_g;
    return gradients_of(saved, sum_g, dweight, part);
  }
  // The same from Σg and dweight.
  static ONEPASS_HD Gradients gradients_of(Saved saved, double sum_g, double dweight, double part) {
    const double slope = dweight * part * double(saved.rstd);
    return {dweight, T(sum_g * part - double(saved.lost) * slope), T(slope)};
  }
  static ONEPASS_HD T input_gradient(T g, T x, T mean, T scale, T level, T slope) {
    return scale * (g - level - (x - mean) * slope);
  }
  // dx where the running statistics normalise.
  static ONEPASS_HD T input_gradient(T g, T scale) { return g * scale; }
};

ONEPASS_END
