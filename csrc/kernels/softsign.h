// softsign: y = x/(1 + |x|); y' = 1/(1 + |x|)².
// Glorot & Bengio, Understanding the Difficulty of Training Deep Feedforward Neural Networks, 2010.
//
// From kFar on y is ±1. Two divisions for the slope: the square would overflow.
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Softsign {
  static constexpr const char* name = "softsign";
  static constexpr auto hyper = names();
  static constexpr T kFar = sizeof(T) == 4 ? T(0x1p26) : T(0x1p55);
  ONEPASS_HD T forward(T x) const {
    const T t = math::at_most(math::abs(x), kFar);
    return math::with_sign(t / (T(1) + t), x);
  }
  ONEPASS_HD T backward(T dy, T x) const {
    const T sum = T(1) + math::abs(x);
    return dy * (T(1) / sum / sum);
  }
};

ONEPASS_END
