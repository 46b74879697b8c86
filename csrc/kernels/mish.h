// mish: y = x·tanh(softplus(x)), softplus(x) = log(1 + exp(x)).
//       y' = tanh(softplus(x)) + x·σ(x)/cosh²(softplus(x)), σ(x) = 1/(1 + exp(-x)).
// Misra, Mish: A Self Regularized Non-Monotonic Activation Function, 2019.
//
// tanh(log(1 + w)) = ((1 + w)² - 1)/((1 + w)² + 1), w = exp(x). With t = |x|, exp(t) = p/s, s a
// power of two, and for x < 0 h = s/2, else h = s, b = p + h and u = b² + h² that gives
//   y(-t) = -t·s·b/u         y'(-t) = s·(b·u - t·p²·(b + h))/u²
//   y(t)  = t - 2·t·s·h/u    y'(t)  = 1 - 2·s·h·(u - 2·t·p·b)/u²
// At -Inf y is the limit -0 and at ±Inf the derivative is 0 or 1: t ends where t·exp(-t) is 0
// (falling.h).
#pragma once
#include "kernels/activation.h"
#include "kernels/falling.h"

ONEPASS_BEGIN

template <class T>
struct Mish {
  static constexpr const char* name = "mish";
  static constexpr auto hyper = names();

  static constexpr T kDown = math::Format<T>::kDown;
  // Below -kSteep b/u is 1/(b + h²), within half a rounding, and spares two.
  static constexpr T kSteep = sizeof(T) == 4 ? T(7.2) : T(19);

  static ONEPASS_HD T half(T x) { return math::where_negative(x, T(0.5), T(1)); }

  // b1 = b - 1: products of 1 + b1 round once.
  ONEPASS_HD T forward(T x) const {
    const auto [t, e] = Falling<T>(x);
    const T h = e.down * half(x), b1 = math::exp_reduced(e.rest, h), v = t * e.lifted;
    const T up = x < -kSteep ? T(0) : b1, more = x < -kSteep ? T(1) : b1 + T(2);
    const T u = math::muladd(b1, more, math::muladd(h, h, T(1)));
    const T w = math::where_negative(x, math::muladd(v, up, v), v * (h + h)) / u;
    return math::ramp(x) - w * kDown;
  }
  ONEPASS_HD T backward(T dy, T x) const {
    const auto [t, e] = Falling<T>(x);
    const T h = e.down * half(x), b = T(1) + math::exp_reduced(e.rest, h), p = b - h;
    const T u = b * b + h * h, rest = math::where_negative(x, p * (b + h), b + b);
    const T inner = u * math::where_negative(x, b, T(1)) - t * p * rest;
    const T scale = math::where_negative(x, T(1), h + h) * kDown;
    const T w = e.lifted * inner / (u * u) * scale;
    return dy * math::where_negative(x, w, T(1) - w);
  }
};

ONEPASS_END
