// softplus: y = log(1 + exp(beta·x))/beta, or x where beta·x > threshold; y' = σ(beta·x), or 1.
// Dugas, Bengio, Bélisle, Nadeau & Garcia, Incorporating Second-Order Functional Knowledge for
// Better Option Pricing, 2001.
//
// With u = beta·x and e = exp(-|u|): y = max(x, 0) + log1p(e)/beta for beta > 0, and for beta < 0
// min(x, 0), which is x where u > 0. Where |u| is large, exp would magnify what rounding takes
// from u, so that is added.
#pragma once
#include "core/product_error.h"
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Softplus {
  static constexpr const char* name = "softplus";
  static constexpr auto hyper = names("beta", "threshold");
  T beta, threshold;

  // exp(-|u|)/kDown.
  ONEPASS_HD T falling(T u, T x) const {
    const T t = math::abs(u), far = -math::Format<T>::kExpMin;
    const T e = math::exp_lifted(math::at_most(t, far), T(-1));
    const T lost = t < far ? math::product_error(beta, x, u) : T(0);
    return e + e * (u < T(0) ? lost : -lost);
  }
  ONEPASS_HD T forward(T x) const {
    const T u = beta * x;
    const T bend = math::log1p(falling(u, x) * math::Format<T>::kDown) / beta;
    const T y = u > T(0) ? x + bend : bend;
    return u > threshold ? x : y;
  }
  ONEPASS_HD T backward(T dy, T x) const {
    const T u = beta * x, e = falling(u, x), small = e * math::Format<T>::kDown;
    const T slope = (u < T(0) ? small : T(1)) / (T(1) + small);
    return dy * (u > threshold ? T(1) : slope);
  }
};

ONEPASS_END
