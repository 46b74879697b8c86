// gelu:      y = x·Φ(x), Φ(x) = (1 + erf(x/√2))/2; y' = Φ(x) + x·φ(x), φ(x) = exp(-x²/2)/√(2π).
// gelu_tanh: y = x·σ(2u), u = √(2/π)·(x + 0.044715·x³), since (1 + tanh u)/2 = σ(2u).
// Hendrycks & Gimpel, Gaussian Error Linear Units, 2016.
//
// Both in t = |x|, with what is small computed as such: y(-t) = -t·Q, Q = Φ(-t), y(t) = t - t·Q,
// and y'(-t) = 1 - y'(t). At -Inf y is the limit -0 and at ±Inf the derivative is 0 or 1: t ends at
// kFar, where Q and φ have long been 0, so that no product is Inf·0.
#pragma once
#include "core/mills.h"
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
  // exp(-t²/2) / kDown, of which φ(t) and Q(t) are multiples, is
  // power_of_two(bell)·exp_reduced(bell).
  static ONEPASS_HD math::Reduced<T> bell(T t) {
    using F = math::Format<T>;
    return math::reduce_square(t, F::kBias + F::kLift, T(-0.5));
  }

  ONEPASS_HD T forward(T x) const {
    const T t = bounded(x);
    const math::Reduced<T> e = bell(t);
    const T below = math::mills_times(t, e) * math::power_of_two(e);
    return math::muladd(-below, kDown, math::ramp(x));
  }
  ONEPASS_HD T backward(T dy, T x) const {
    const T t = bounded(x);
    const math::Reduced<T> e = bell(t);
    const T below = math::exp_reduced(e) * math::power_of_two(e) *
                    math::muladd(-t, kDensity * kDown, math::mills(t, kDown));
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
  // -2u with the exponent of 1 / kDown. Float: -kCubic·t·(t² + c), c = 1/0.044715, where c and the
  // sum are in two parts each, for exp magnifies what they would lose.
  static ONEPASS_HD math::Reduced<float> falling(float t) {
    using F = math::Format<float>;
    constexpr float c = 0x1.65d26p+4f, c_rest = -0x1.226128p-20f;
    constexpr float ln2 = 0x1.36d8p+3f, ln2_rest = 0x1.d56d78p-13f;  // over kCubic
    const float sum = math::muladd(t, t, c), lost = math::muladd(t, t, c - sum) + c_rest;
    const float shift = F::kShift + float(F::kBias + F::kLift);
    const float shifted = math::muladd(t * sum, float(-kCubic) * F::kLog2e, shift);
    const float k = shifted - shift, hi = math::muladd(t, sum, k * ln2);
    return {math::to_bits(shifted), math::muladd(t, lost, math::muladd(k, ln2_rest, hi)),
            float(-kCubic)};
  }
  static ONEPASS_HD math::Reduced<double> falling(double t) {
    using F = math::Format<double>;
    return math::reduce(t * math::muladd(t * t, double(kCubic), double(kLinear)),
                        F::kBias + F::kLift, -1.0);
  }

  ONEPASS_HD T forward(T x) const {
    const T t = bounded(x);
    const math::Reduced<T> e = falling(t);
    const T down = math::power_of_two(e), less = math::expm1_reduced(e), top = t * down;
    return math::ramp(x) -
           math::muladd(top, less, top) / math::muladd(down, less, down + T(1) / kDown);
  }
  // σ' = e·r² where 1 - σ would cancel.
  ONEPASS_HD T backward(T dy, T x) const {
    const T t = bounded(x);
    const math::Reduced<T> f = falling(t);
    const T lifted = math::exp_reduced(f) * math::power_of_two(f);
    const T r = T(1) / math::muladd(lifted, kDown, T(1)), rest = lifted * r;
    const T slope = t * math::muladd(t * t, T(3) * kCubic, kLinear);
    const T below = math::muladd(-slope, rest * r, rest) * kDown;
    return dy * (x < T(0) ? below : T(1) - below);
  }
};

ONEPASS_END
