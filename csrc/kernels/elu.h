// elu: y = x for x > 0, alpha·(exp(x) - 1) otherwise; y' = 1 for x > 0, alpha·exp(x) otherwise.
// Clevert, Unterthiner & Hochreiter, Fast and Accurate Deep Network Learning by Exponential Linear
// Units, 2016.
//
// expm1 keeps what exp(x) - 1 would cancel. The derivative at 0 is alpha, the left one.
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Elu {
  static constexpr const char* name = "elu";
  static constexpr auto hyper = names("alpha");
  // Below kFar the slope is 0; kRoot² is kDown, a factor for exp and one for alpha, so that neither
  // leaves the range.
  static constexpr T kFar = sizeof(T) == 4 ? T(-130) : T(-1060);
  static constexpr T kRoot = sizeof(T) == 4 ? T(0x1p-32) : T(0x1p-256);
  T alpha;
  ONEPASS_HD T forward(T x) const { return x >= T(0) ? x : math::scaled_expm1(alpha, x); }
  ONEPASS_HD T backward(T dy, T x) const {
    const T e = math::exp_lifted(math::at_least(x, kFar), T(1));  // for x <= 0 only
    const T below = x < kFar ? T(0) : (e * kRoot) * (alpha * kRoot);
    return dy * (x > T(0) ? T(1) : below);
  }
};

ONEPASS_END
