// sigmoid: y = 1 / (1 + exp(-x)); y' = y·(1 - y).
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Sigmoid {
  static constexpr const char* name = "sigmoid";
  static constexpr auto hyper = names();
  ONEPASS_HD T forward(T x) const { return math::sigmoid(x); }
  // q(1-q) with q = 1/(1+exp(|x|)): 1 - y would cancel for large x.
  ONEPASS_HD T backward(T dy, T x) const {
    const T t = math::at_most(math::abs(x), -math::Format<T>::kExpMin);
    return dy * math::logistic_slope(math::rising(t));
  }
  ONEPASS_HD T backward_y(T dy, T y) const { return dy * (y * (T(1) - y)); }
};

ONEPASS_END
