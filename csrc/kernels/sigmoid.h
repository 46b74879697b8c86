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
    const T e = math::exp_down(-math::abs(x));
    return dy * (e / ((T(1) + e) * (T(1) + e)));
  }
};

ONEPASS_END
