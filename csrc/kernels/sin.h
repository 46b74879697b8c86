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
  // float: most x need no exact reduction.
  static constexpr bool has_usual = sizeof(T) == 4;
  static ONEPASS_HD bool is_usual(T x) { return math::sin_is_near(x); }
  ONEPASS_HD T usual_forward(T x) const { return math::near_sin<false>(x); }
  ONEPASS_HD T usual_backward(T dy, T x) const { return dy * math::near_sin<true>(x); }
};

ONEPASS_END
