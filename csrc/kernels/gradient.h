// The change of a gradient before an optimizer's update reads it:
//   g ← clamp(g · unscale, ±max_value) · coefficient · rest
// unscale = 1/grad_scale; coefficient · rest = min(1, max_norm/(norm + 1e-6)), negative to
// maximize. NaN stays NaN.
// Updates clamp as clamp_gradient() does: nested math::min and math::max stop the vectoriser.
#pragma once
#include "core/backend.h"
#include "core/math.h"
#include "core/signature.h"

ONEPASS_BEGIN

// Which operand of a functor is the gradient that rides: of updates kGrad, of anything else none.
constexpr int kNoGradient = -1;

template <class T>
ONEPASS_HD T clamp_gradient(T g, T max_value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (sizeof(T) == 4) {  // in two instructions, which keep NaN
    float clamped;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(clamped) : "f"(g), "f"(-max_value));
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(clamped) : "f"(clamped), "f"(max_value));
    return clamped;
  }
#endif
  const T low = g < -max_value ? -max_value : g;
  return low > max_value ? max_value : low;
}

// 1/scale of a number that no host has checked; NaN, which every gradient then becomes, where the
// host would refuse it.
template <class T>
ONEPASS_HD T unscale_of(double scale) {
  const T unscale = T(1 / scale);
  return unscale >= math::Format<T>::kMinNormal && math::isfinite(unscale) ? unscale
                                                                           : math::quiet_nan<T>();
}

// The factor that brings a norm down to max_norm: coefficient · rest. `rest` is a power of two, and
// 1 unless the product is too small for a normal double.
struct Clip {
  double coefficient, rest;
};

// min(1, max_norm/(norm · unit + 1e-6)); NaN if the norm is.
ONEPASS_HD Clip clip_to(double max_norm, double norm, double unit) {
  // `unit` is greater than 1 only where no double holds the norm.
  const double sum = norm + 1e-6, coefficient = max_norm / sum / unit;
  // Scaled by 2^522 · 2^500: neither factor leaves the range, whatever max_norm and norm are.
  if (coefficient < 0x1p-1022) return {max_norm * 0x1p522 / (sum * 0x1p-500) / unit, 0x1p-1022};
  return {coefficient > 1 ? 1 : coefficient, 1};
}

// A coefficient below T's normal numbers is split into two factors, T's least normal number and one
// of at most 1. As one, it would be flushed to zero, and stop the huge gradients that it is meant
// for. Their product with a gradient vanishes only below four of T's least normal numbers.
template <class T>
struct PrepareGradient {
  T unscale, max_value, coefficient, rest;
  ONEPASS_HD PrepareGradient(double unscale_, double max_value_, Clip clip)
      : unscale(T(unscale_)), max_value(T(max_value_)) {
    set_coefficient(clip);
  }
  ONEPASS_HD void set_coefficient(Clip clip) {
    if constexpr (sizeof(T) == 8) {
      coefficient = T(clip.coefficient);
      rest = T(clip.rest);
    } else {
      const double c = clip.coefficient * clip.rest;
      const bool tiny = (c < 0 ? -c : c) < 0x1p-126;
      coefficient = T(tiny ? c * 0x1p126 : c);
      rest = T(tiny ? 0x1p-126 : 1.0);
    }
  }
  ONEPASS_HD T operator()(T g) const {
    return clamp_gradient(g * unscale, max_value) * coefficient * rest;
  }
};

// The update with its riders: the gradient is prepared on the way in and, with kZero, left at zero.
template <class K, class T, bool kZero>
struct Ridden {
  K update;
  PrepareGradient<T> prepare;
  template <class... S>
  ONEPASS_HD auto operator()(T& param, T& grad, S&&... state) const {
    if constexpr (kZero) {
      update(param, prepare(grad), static_cast<S&&>(state)...);
      grad = T(0);
    } else {
      return update(param, prepare(grad), static_cast<S&&>(state)...);
    }
  }
};

ONEPASS_END
