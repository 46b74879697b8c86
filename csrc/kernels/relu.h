// relu: y = max(x, 0); the derivative at 0 is 0.
// Nair & Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, 2010.
#pragma once
#include "kernels/activation.h"

ONEPASS_BEGIN

template <class T>
struct Relu {
  static constexpr const char* name = "relu";
  static constexpr auto hyper = names();
  ONEPASS_HD T forward(T x) const { return x <= T(0) ? T(0) : x; }
  ONEPASS_HD T backward(T dy, T x) const {
    const T blocked = dy == dy ? T(0) : dy;  // selected, so that Inf does not meet 0; NaN stays
    const T slope = x > T(0) ? dy : blocked;
    return x == x ? slope : x;
  }
};

ONEPASS_END
