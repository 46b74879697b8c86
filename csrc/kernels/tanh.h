// tanh: y = tanh(x); y' = 1 - y².
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Tanh {
  static constexpr const char* name = "tanh";
  static constexpr auto hyper = names();
  static constexpr T kFar = sizeof(T) == 4 ? T(53) : T(374);  // 4q is 0 there
  ONEPASS_HD T forward(T x) const { return math::tanh(x); }
  // 4q(1-q) with q = 1/(1+exp(2|x|)): 1 - y² would cancel for large x.
  ONEPASS_HD T backward(T dy, T x) const {
    const T t = math::at_most(math::abs(x), kFar);
    return dy * (math::logistic_slope(math::rising(t, T(2)), T(4)));
  }
  ONEPASS_HD T backward_y(T dy, T y) const { return dy * ((T(1) - y) * (T(1) + y)); }
};

ONEPASS_END
