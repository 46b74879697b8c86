// leaky_relu: y = x for x > 0, negative_slope·x otherwise; the derivative at 0 is negative_slope.
// Maas, Hannun & Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, 2013.
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct LeakyRelu {
  static constexpr const char* name = "leaky_relu";
  static constexpr auto hyper = names("negative_slope");
  T negative_slope;
  ONEPASS_HD T forward(T x) const { return x > T(0) ? x : limit(x); }
  ONEPASS_HD T backward(T dy, T x) const {
    const T dx = x > T(0) ? dy : negative_slope * dy;
    return x == x ? dx : x;
  }
  // A slope of 0 times -Inf would be NaN where the limit is 0.
  ONEPASS_HD T limit(T x) const {
    return (negative_slope == T(0)) & (x == x) ? T(0) : negative_slope * x;
  }
};

ONEPASS_END
