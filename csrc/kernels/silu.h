// silu: y = x·σ(x), σ(x) = 1/(1 + exp(-x)); y' = σ(x)·(1 + x·(1 - σ(x))).
// Elfwing, Uchibe & Doya, Sigmoid-Weighted Linear Units, 2018; Ramachandran, Zoph & Le, Swish,
// 2017.
//
// Both in t = |x| and q = σ(-t): y(-t) = -t·q, y(t) = t - t·q, y'(-t) = q·(1 - t·(1 - q)) and
// y'(t) = 1 - y'(-t). At -Inf y is the limit -0 and at ±Inf the derivative is 0 or 1: t ends where
// t·exp(-t) is 0 (falling.h).
#pragma once
#include "kernels/activation.h"
#include "kernels/falling.h"

ONEPASS_BEGIN

template <class T>
struct Silu {
  static constexpr const char* name = "silu";
  static constexpr auto hyper = names();
  static constexpr T kDown = math::Format<T>::kDown;

  ONEPASS_HD T forward(T x) const {
    const auto [t, e] = Falling<T>(x);
    return math::ramp(x) - math::lifted_logistic(e, t) * kDown;
  }
  ONEPASS_HD T backward(T dy, T x) const {
    const auto [t, e] = Falling<T>(x);
    const T q = math::lifted_logistic(e);
    const T below = q * math::muladd(-t, T(1) - q * kDown, T(1)) * kDown;
    return dy * (x < T(0) ? below : T(1) - below);
  }
};

ONEPASS_END
