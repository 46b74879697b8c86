// softsign: y = x/(1 + |x|); y' = 1/(1 + |x|)².
// Glorot & Bengio, Understanding the Difficulty of Training Deep Feedforward Neural Networks, 2010.
//
// From kFar on y is ±1. The slope counts what rounding takes from 1 + |x|, since the square would
// double it; scaled by kRoot the square does not overflow where the slope is not 0.
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Softsign {
  static constexpr const char* name = "softsign";
  static constexpr auto hyper = names();
  static constexpr T kFar = sizeof(T) == 4 ? T(0x1p26) : T(0x1p55);
  static constexpr T kFlat = sizeof(T) == 4 ? T(0x1p76) : T(0x1p540);  // the slope is 0 there
  static constexpr T kRoot = sizeof(T) == 4 ? T(0x1p-42) : T(0x1p-300), kDown = kRoot * kRoot;
  ONEPASS_HD T forward(T x) const {
    const T t = math::at_most(math::abs(x), kFar);
    return math::with_sign(t / (T(1) + t), x);
  }
  ONEPASS_HD T backward(T dy, T x) const {
    const T t = math::at_most(math::abs(x), kFlat), big = math::at_least(t, T(1)),
            small = math::at_most(t, T(1));
    const T sum = big + small, lost = small - (sum - big);
    const T root = sum * kRoot, twice = lost * (T(2) * kRoot);
    return dy * (kDown / math::muladd(root, root, root * twice));
  }
};

ONEPASS_END
