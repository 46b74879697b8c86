// What an optimizer step does to a gradient before the update sees it:
//   g ← clamp(g · unscale, ±max_value) · coefficient
// unscale = 1/grad_scale; coefficient = min(1, max_norm/(norm + 1e-6)), negative to maximize.
// NaN stays NaN.
#pragma once
#include "core/math.h"
#include "core/signature.h"

ONEPASS_BEGIN

template <class T>
ONEPASS_HD T clamp_gradient(T g, T max_value) {
  const T low = g < -max_value ? -max_value : g;
  return low > max_value ? max_value : low;
}

template <class T>
struct PrepareGradient {
  T unscale, max_value, coefficient;
  ONEPASS_HD T operator()(T g) const {
    return clamp_gradient(g * unscale, max_value) * coefficient;
  }
};

// What brings a norm down to max_norm; NaN where the norm is.
ONEPASS_HD double clip_coefficient(double max_norm, double norm) {
  const double coefficient = max_norm / (norm + 1e-6);
  return coefficient > 1 ? 1 : coefficient;
}

// The update with its riders: the gradient is prepared on the way in and, with kZero, left at zero.
template <class K, class T, bool kZero>
struct Ridden {
  K update;
  PrepareGradient<T> prepare;
  template <class... S>
  ONEPASS_HD void operator()(T& param, T& grad, S&... state) const {
    update(param, prepare(grad), state...);
    if constexpr (kZero) grad = T(0);
  }
};

ONEPASS_END
