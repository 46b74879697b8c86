// layer_norm: z = x̂·weight + bias with x̂ = (x - mean)/√(variance + eps), over the elements of a
// row; the variance is the biased one. group_norm and instance_norm are the same over other rows.
// Gradients over the n elements of a row, g = dz and w the element's weight:
//   dx = rstd·(g·w - mean(g·w) - x̂·mean(g·w·x̂)),  rstd = 1/√(variance + eps)
//   dweight = Σ g·x̂ and dbias = Σ g over the elements that share them
// Ba, Kiros & Hinton, Layer Normalization, 2016; Wu & He, Group Normalization, 2018; Ulyanov et
// al., Instance Normalization, 2016.
//
// As in kernels/batch_norm.h the mean is kept as `mean`, rounded to T, and the rounding error
// `lost`.
#pragma once
#include "kernels/batch_norm.h"
#include "kernels/norm_range.h"

ONEPASS_BEGIN

template <class T>
struct LayerNormRule {
  static constexpr const char* name = "layer_norm";
  static constexpr bool kCentres = true;  // x̂ has a mean of 0

  using Saved = typename BatchNormRule<T>::Saved;
  // A sum over a row times this is its mean.
  static ONEPASS_HD double part(double count) { return 1 / count; }

  // Of a row, from the sums of d and d², where d = x - first; `first` is its first element where
  // the rule centres, else 0.
  static ONEPASS_HD Saved save(double sum, double squares, double first, double part, double eps) {
    const auto m = BatchNormRule<T>::moments(sum, squares, part);
    const auto s = BatchNormRule<T>::save(first, m.offset, m.variance, eps);
    return {s.mean, s.lost, narrowed(1 / math::sqrt(m.variance + eps), T())};
  }

  // Every element of a row: x̂ = (x - mean)·rstd + offset.
  static ONEPASS_HD T offset(Saved saved) { return T(-double(saved.lost) * double(saved.rstd)); }
  static ONEPASS_HD T hat(T x, T mean, T rstd, T offset) { return (x - mean) * rstd + offset; }
  static ONEPASS_HD T affine(T hat, T weight, T bias) { return hat * weight + bias; }

  // dx = rstd·(g·w - level - x̂·slope), from Σ g·w and Σ g·w·x̂.
  struct Correction {
    T level, slope;
  };
  static ONEPASS_HD Correction correction(double sum, double products, double part) {
    return {T(sum * part), T(products * part)};
  }
  static ONEPASS_HD T input_gradient(T gw, T hat, T rstd, T level, T slope) {
    return rstd * (gw - level - hat * slope);
  }
};

ONEPASS_END
