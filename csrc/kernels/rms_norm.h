// rms_norm: z = x̂·weight with x̂ = x/√(mean(x²) + eps), over the elements of a row. Gradients over
// the n elements of a row, g = dz and w the element's weight:
//   dx = rstd·(g·w - x̂·mean(g·w·x̂)),  rstd = 1/√(mean(x²) + eps);  dweight = Σ g·x̂
// Zhang & Sennrich, Root Mean Square Layer Normalization, 2019.
#pragma once
#include "kernels/layer_norm.h"

ONEPASS_BEGIN

template <class T>
struct RmsNormRule : LayerNormRule<T> {
  static constexpr const char* name = "rms_norm";
  static constexpr bool kCentres = false;

  using typename LayerNormRule<T>::Saved;
  using typename LayerNormRule<T>::Correction;
  static ONEPASS_HD Saved save(double, double squares, double, double part, double eps) {
    return {T(0), T(0), narrowed(1 / math::sqrt(squares * part + eps), T())};
  }
  static ONEPASS_HD Correction correction(double, double products, double part) {
    return {T(0), T(products * part)};
  }
};

ONEPASS_END
