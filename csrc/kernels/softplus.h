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

  // Of exp(-|beta·x|), lifted.
  ONEPASS_HD math::Reduced<T> reduced(T u, T x) const {
    using F = math::Format<T>;
    const T t = math::abs(u), far = -F::kExpMin;
    const T lost = t < far ? math::product_error(beta, x, u) : T(0);
    const math::Reduced<T> e = math::reduce(math::at_most(t, far), F::kBias + F::kLift, T(-1));
    return math::plus(e, math::from_bits(math::to_bits(lost) ^ (~math::to_bits(u) & F::kSign)));
  }
  ONEPASS_HD T forward(T x) const {
    using F = math::Format<T>;
    const T u = beta * x;
    const math::Reduced<T> e = reduced(u, x);
    const T falling = math::exp_reduced(e) * math::power_of_two(e);
    const T bend = math::log1p(falling * F::kDown) / beta;
    const T y = u > T(0) ? x + bend : bend;
    return u > threshold ? x : y;
  }
  ONEPASS_HD T backward(T dy, T x) const {
    const T u = beta * x;
    // As math::logistic(), but for muladd(), which r and k do not suit that depend on two numbers.
    const math::Rising<T> e = math::rising_of(reduced(u, x));
    const T under = T(1) + (e.down + math::expm1_reduced(e.rest));
    const T q = e.lifted / under * math::Format<T>::kDown;
    const T slope = u < T(0) ? q : T(1) - q;
    return dy * (u > threshold ? T(1) : slope);
  }
};

ONEPASS_END
