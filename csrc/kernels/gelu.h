// gelu:      y = x·Φ(x), Φ(x) = (1 + erf(x/√2))/2; y' = Φ(x) + x·φ(x), φ(x) = exp(-x²/2)/√(2π).
// gelu_tanh: y = x·σ(2u), u = √(2/π)·(x + 0.044715·x³), since (1 + tanh u)/2 = σ(2u).
// Hendrycks & Gimpel, Gaussian Error Linear Units, 2016.
//
// Both in t = |x|, with what is small computed as such: y(-t) = -t·Q, Q = Φ(-t), y(t) = t - t·Q,
// and y'(-t) = 1 - y'(t). At -Inf y is the limit -0 and at ±Inf the derivative is 0 or 1: t ends at
// kFar, where Q and φ have long been 0, so that no product is Inf·0.
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Gelu {
  static constexpr const char* name = "gelu";
  static constexpr auto hyper = names();
  static constexpr T kFar = sizeof(T) == 4 ? T(15) : T(40);
  static constexpr T kDown = math::Format<T>::kDown;
  static constexpr T kDensity = T(0.39894228040143267794);  // φ(0) = 1/√(2π)

  static ONEPASS_HD T bounded(T x) { return math::at_most(math::abs(x), kFar); }
  // exp(-t²/2) / kDown, of which φ(t) and Q(t) are multiples.
  static ONEPASS_HD T bell(T t) { return math::exp_lifted<math::Ln2::rounded>(t * t, T(-0.5)); }

  ONEPASS_HD T forward(T x) const {
    const T t = bounded(x);
    return math::muladd(-(t * bell(t)), math::mills(t, kDown), math::ramp(x));
  }
  ONEPASS_HD T backward(T dy, T x) const {
    const T t = bounded(x);
    const T below = bell(t) * math::muladd(-t, kDensity * kDown, math::mills(t, kDown));
    return dy * (x < T(0) ? below : T(1) - below);
  }
};

template <class T>
struct GeluTanh {
  static constexpr const char* name = "gelu_tanh";
  static constexpr auto hyper = names();
  static constexpr T kFar = sizeof(T) == 4 ? T(11) : T(24);
  static constexpr T kDown = math::Format<T>::kDown;
  static constexpr T kLinear = T(1.5957691216057307118);  // 2·√(2/π)
  static constexpr T kCubic = T(0.071354816272600248);    // 0.044715·kLinear

  static ONEPASS_HD T bounded(T x) { return math::at_most(math::abs(x), kFar); }
  // exp(-2u) / kDown.
  static ONEPASS_HD T falling(T t) {
    return math::exp_lifted<math::Ln2::rounded>(t * math::muladd(t * t, kCubic, kLinear), T(-1));
  }

  ONEPASS_HD T forward(T x) const {
    const T t = bounded(x), e = falling(t);
    return math::ramp(x) - t * e / (e + T(1) / kDown);
  }
  // σ' = e·r² where 1 - σ would cancel.
  ONEPASS_HD T backward(T dy, T x) const {
    const T t = bounded(x), e = falling(t) * kDown, r = T(1) / (T(1) + e);
    const T slope = t * math::muladd(t * t, T(3) * kCubic, kLinear), rest = e * r;
    const T below = math::muladd(-slope, rest * r, rest);
    return dy * (x < T(0) ? below : T(1) - below);
  }
};

ONEPASS_END
