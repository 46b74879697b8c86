// gelu:      y = x·Φ(x), Φ(x) = (1 + erf(x/√2))/2; y' = Φ(x) + x·φ(x), φ(x) = exp(-x²/2)/√(2π).
// gelu_tanh: y = x·σ(2u), u = √(2/π)·(x + 0.044715·x³), since (1 + tanh u)/2 = σ(2u).
// Hendrycks & Gimpel, Gaussian Error Linear Units, 2016.
//
// At -Inf y is the limit -0 and at ±Inf the derivative is 0 or 1: beyond kFar the product with x,
// which would be Inf·0, is taken at kFar, where Φ and φ have long been 0 or 1.
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Gelu {
  static constexpr const char* name = "gelu";
  static constexpr auto hyper = names();
  static constexpr T kFar = sizeof(T) == 4 ? T(15) : T(40);

  // Both need e = exp(-x²/2): φ(x) = e/√(2π), Φ(-|x|) = erfc(|x|/√2)/2 = e·erfcx(|x|/√2)/2. No
  // cancellation for x < 0, where (1 + erf)/2 would have it.
  struct Normal {
    T cdf, e;
    ONEPASS_HD explicit Normal(T x) : e(math::exp(T(-0.5) * x * x)) {
      const T tail = T(0.5) * e * math::erfcx(math::abs(x) * T(0.70710678118654752440));
      cdf = x < T(0) ? tail : T(1) - tail;
    }
  };
  ONEPASS_HD T forward(T x) const {
    const T near = x < -kFar ? -kFar : x;
    return near * Normal(near > kFar ? kFar : near).cdf;
  }
  ONEPASS_HD T backward(T dy, T x) const {
    T near = x < -kFar ? -kFar : x;
    near = near > kFar ? kFar : near;
    const Normal normal(near);
    return dy * (normal.cdf + near * (normal.e * T(0.39894228040143267794)));
  }
};

template <class T>
struct GeluTanh {
  static constexpr const char* name = "gelu_tanh";
  static constexpr auto hyper = names();
  static constexpr T kFar = sizeof(T) == 4 ? T(12) : T(24);
  static constexpr T kLinear = T(1.5957691216057307118);  // 2·√(2/π)
  static constexpr T kCubic = T(0.071354816272600248);    // 0.044715·kLinear

  ONEPASS_HD T forward(T x) const {
    T near = x < -kFar ? -kFar : x;
    const T top = near > kFar ? kFar : near;
    return near * math::sigmoid(top * (kLinear + kCubic * top * top));
  }
  ONEPASS_HD T backward(T dy, T x) const {
    T near = x < -kFar ? -kFar : x;
    near = near > kFar ? kFar : near;
    const T square = near * near, u = near * (kLinear + kCubic * square);
    const T e = math::exp(-math::abs(u)), r = T(1) / (T(1) + e);
    const T s = u < T(0) ? e * r : r;  // σ(u); σ·(1 - σ) = e·r², where 1 - σ would cancel
    return dy * (s + near * (e * r * r) * (kLinear + T(3) * kCubic * square));
  }
};

ONEPASS_END
