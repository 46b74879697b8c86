// selu: y = scale·x for x > 0, scale·alpha·(exp(x) - 1) otherwise.
//       y' = scale for x > 0, scale·alpha·exp(x) otherwise.
// Klambauer, Unterthiner, Mayr & Hochreiter, Self-Normalizing Neural Networks, 2017.
//
// expm1 keeps what exp(x) - 1 would cancel. The derivative at 0 is scale·alpha, the left one.
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Selu {
  static constexpr const char* name = "selu";
  static constexpr auto hyper = names();
  static constexpr T kFar = sizeof(T) == 4 ? T(-109) : T(-752);  // scale·alpha·exp is 0 there
  static constexpr T kScale = T(1.0507009873554804934193349852946);
  static constexpr T kDepth = T(1.7580993408473768599402175208123);  // scale·alpha

  ONEPASS_HD T forward(T x) const { return x >= T(0) ? kScale * x : math::scaled_expm1(kDepth, x); }
  ONEPASS_HD T backward(T dy, T x) const {
    using F = math::Format<T>;
    const T e = math::exp_lifted(math::at_least(x, kFar), T(1));  // for x <= 0 only
    return dy * (x > T(0) ? kScale : e * (kDepth * F::kDown));
  }
};

ONEPASS_END
