// celu: y = x for x > 0, alpha·(exp(x/alpha) - 1) otherwise; y' = 1 for x > 0, exp(x/alpha)
// otherwise. alpha > 0.
// Barron, Continuously Differentiable Exponential Linear Units, 2017.
//
// Where x/alpha is large, exp would magnify what rounding takes from it, so the slope adds that.
#pragma once
#include "core/product_error.h"
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Celu {
  static constexpr const char* name = "celu";
  static constexpr auto hyper = names("alpha");
  static constexpr T kFar = math::Format<T>::kExpMin;  // exp is 0 there
  T alpha;
  ONEPASS_HD T forward(T x) const { return x >= T(0) ? x : math::scaled_expm1(alpha, x / alpha); }
  ONEPASS_HD T backward(T dy, T x) const {
    const T q = x / alpha;
    const T e = math::exp_lifted(math::at_least(q, kFar), T(1));  // for x <= 0 only
    const T lost = math::product_error(q, alpha, x) / alpha;
    const T below = q < kFar ? T(0) : (e - e * lost) * math::Format<T>::kDown;
    return dy * (x > T(0) ? T(1) : below);
  }
};

ONEPASS_END
