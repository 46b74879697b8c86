// silu: y = x·σ(x), σ(x) = 1/(1 + exp(-x)); y' = σ(x)·(1 + x·(1 - σ(x))).
// Elfwing, Uchibe & Doya, Sigmoid-Weighted Linear Units, 2018; Ramachandran, Zoph & Le, Swish,
// 2017.
//
// Both in t = |x| and e = exp(-t): y(t) = t/(1+e), y(-t) = -t·e/(1+e), and y'(t) = 1 - y'(-t). At
// -Inf y is the limit -0 and at ±Inf the derivative is 0 or 1: t ends where t·e is 0 (falling.h).
#pragma once
#include "kernels/activation.h"
#include "kernels/falling.h"

ONEPASS_BEGIN

template <class T>
struct Silu {
  static constexpr const char* name = "silu";
  static constexpr auto hyper = names();
  static constexpr T kDown = Falling<T>::kDown;

  ONEPASS_HD T forward(T x) const {
    const auto [t, e] = Falling<T>(x);
    return (x < T(0) ? -(t * e) * kDown : x) / math::muladd(e, kDown, T(1));
  }
  ONEPASS_HD T backward(T dy, T x) const {
    const auto [t, e] = Falling<T>(x);
    const T r = T(1) / math::muladd(e, kDown, T(1));
    const T below = e * r * (T(1) - t * r) * kDown;
    return dy * (x < T(0) ? below : T(1) - below);
  }
};

ONEPASS_END
