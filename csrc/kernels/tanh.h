// tanh: y = tanh(x); y' = 1 - y².
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Tanh {
  static constexpr const char* name = "tanh";
  static constexpr auto hyper = names();
  ONEPASS_HD T forward(T x) const { return math::tanh(x); }
  // 4e/(1+e)² with e = exp(-2|x|): 1 - y² would cancel for large x.
  ONEPASS_HD T backward(T dy, T x) const {
    const T e = math::exp_down(T(-2) * math::abs(x));
    return dy * (T(4) * e / ((T(1) + e) * (T(1) + e)));
  }
};

ONEPASS_END
