// mish: y = x·tanh(softplus(x)), softplus(x) = log(1 + exp(x)).
//       y' = tanh(softplus(x)) + x·σ(x)/cosh²(softplus(x)), σ(x) = 1/(1 + exp(-x)).
// Misra, Mish: A Self Regularized Non-Monotonic Activation Function, 2019.
//
// tanh(log(1 + w)) = h/(1 + h), h = w + w²/2, is rational in e = exp(-|x|): for x < 0 w is e, else
// it is 1/e. So with t = |x|
//   y(-t) = -t·h/(1 + h)     y'(-t) = e·((1 + e/2)·(1 + h) - t·(1 + e))/(1 + h)²    h = e + e²/2
//   y(t)  = t·p/q            y'(t)  = (p·q + 4·t·e²·(1 + e))/q²        p = 1 + 2e, q = p + 2e²
// At -Inf y is the limit -0 and at ±Inf the derivative is 0 or 1: t ends where t·e is 0
// (falling.h).
#pragma once
#include "kernels/activation.h"
#include "kernels/falling.h"

ONEPASS_BEGIN

template <class T>
struct Mish {
  static constexpr const char* name = "mish";
  static constexpr auto hyper = names();
  static constexpr T kDown = Falling<T>::kDown;

  ONEPASS_HD T forward(T x) const {
    const bool below = x < T(0);
    const auto [t, lifted] = Falling<T>(x);
    const T e = lifted * kDown;
    const T half = math::muladd(e, T(0.5), T(1)), p = math::muladd(e, T(2), T(1));
    const T under = math::muladd(below ? e : e + e, below ? half : e, below ? T(1) : p);
    return (below ? -(t * lifted) * half * kDown : x * p) / under;
  }
  ONEPASS_HD T backward(T dy, T x) const {
    const bool below = x < T(0);
    const auto [t, lifted] = Falling<T>(x);
    const T e = lifted * kDown, one = T(1) + e;
    const T half = math::muladd(e, T(0.5), T(1)), p = math::muladd(e, T(2), T(1));
    const T under = math::muladd(below ? e : e + e, below ? half : e, below ? T(1) : p);
    const T left = lifted * (half * under - t * one) * kDown;
    const T right = p * under + T(4) * t * (e * e) * one;
    return dy * ((below ? left : right) / (under * under));
  }
};

ONEPASS_END
