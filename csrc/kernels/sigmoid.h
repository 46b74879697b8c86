// sigmoid: y = 1 / (1 + exp(-x)); y' = y·(1 - y).
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Sigmoid {
  static constexpr const char* name = "sigmoid";
  static constexpr auto hyper = names();
  ONEPASS_HD T forward(T x) const { return math::sigmoid(x); }
  // e/(1+e)² with e = exp(-|x|): 1 - y would cancel for large x.
  ONEPASS_HD T backward(T dy, T x) const {
    using F = math::Format<T>;
    const T t = math::at_most(math::abs(x), -F::kExpMin);
    const T e = math::exp_lifted(t, T(-1)), sum = math::muladd(e, F::kDown, T(1));
    return dy * (e * F::kDown / (sum * sum));
  }
  ONEPASS_HD T backward_y(T dy, T y) const { return dy * (y * (T(1) - y)); }
};

ONEPASS_END
