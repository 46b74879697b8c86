// sin: y = sin(x); y' = cos(x). NaN at ±Inf, and in double beyond math::kSinMax.
// Sitzmann, Martel, Bergman, Lindell & Wetzstein, Implicit Neural Representations with Periodic
// Activation Functions, 2020.
#pragma once
#include "core/sin.h"
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Sin {
  static constexpr const char* name = "sin";
  static constexpr auto hyper = names();
  ONEPASS_HD T forward(T x) const { return math::sin(x); }
  ONEPASS_HD T backward(T dy, T x) const { return dy * math::cos(x); }
};

ONEPASS_END
