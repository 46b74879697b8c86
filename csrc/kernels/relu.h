// relu: y = max(x, 0); the derivative at 0 is 0.
// Nair & Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, 2010.
#pragma once
#include "kernels/activation.h"
#include "kernels/selected.h"

ONEPASS_BEGIN

template <class T>
struct Relu {
  static constexpr const char* name = "relu";
  static constexpr auto hyper = names();
  ONEPASS_HD T forward(T x) const { return x <= T(0) ? T(0) : x; }
  ONEPASS_HD T backward(T dy, T x) const { return selected(dy, x, x > T(0) ? dy : T(0)); }
};

ONEPASS_END
