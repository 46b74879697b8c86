// tanh: y = tanh(x); y' = 1 - y².
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Tanh {
  static constexpr const char* name = "tanh";
  static constexpr auto hyper = names();
  static constexpr T kFar = sizeof(T) == 4 ? T(53) : T(374);  // 4e is 0 there
  ONEPASS_HD T forward(T x) const { return math::tanh(x); }
  // 4e/(1+e)² with e = exp(-2|x|): 1 - y² would cancel for large x.
  ONEPASS_HD T backward(T dy, T x) const {
    using F = math::Format<T>;
    const T t = math::at_most(math::abs(x), kFar);
    const T e = math::exp_lifted(t, T(-2)), sum = math::muladd(e, F::kDown, T(1));
    return dy * (e * (T(4) * F::kDown) / (sum * sum));
  }
  ONEPASS_HD T backward_y(T dy, T y) const { return dy * ((T(1) - y) * (T(1) + y)); }
};

ONEPASS_END
