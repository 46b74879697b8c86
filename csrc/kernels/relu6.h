// relu6: y = min(max(x, 0), 6); y' = 1 for 0 < x < 6, else 0, also at both bounds.
// Krizhevsky, Convolutional Deep Belief Networks on CIFAR-10, 2010.
#pragma once
#include "kernels/activation.h"
#include "kernels/selected.h"

ONEPASS_BEGIN

template <class T>
struct Relu6 {
  static constexpr const char* name = "relu6";
  static constexpr auto hyper = names();
  ONEPASS_HD T forward(T x) const { return math::at_most(x <= T(0) ? T(0) : x, T(6)); }
  ONEPASS_HD T backward(T dy, T x) const {
    return selected(dy, x, (x > T(0)) & (x < T(6)) ? dy : T(0));
  }
};

ONEPASS_END
