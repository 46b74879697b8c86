// abs: y = |x|; y' = the sign of x, 0 at 0.
// Jarrett, Kavukcuoglu, Ranzato & LeCun, What is the Best Multi-Stage Architecture for Object
// Recognition?, 2009.
#pragma once
#include "kernels/activation.h"
#include "kernels/selected.h"

ONEPASS_BEGIN

template <class T>
struct Abs {
  static constexpr const char* name = "abs";
  static constexpr auto hyper = names();
  ONEPASS_HD T forward(T x) const { return math::abs(x); }
  ONEPASS_HD T backward(T dy, T x) const {
    const T left = x < T(0) ? -dy : T(0);
    return selected(dy, x, x > T(0) ? dy : left);
  }
};

ONEPASS_END
