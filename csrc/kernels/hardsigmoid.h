// hardsigmoid: y = min(max(x + 3, 0), 6)/6; y' = 1/6 for -3 < x < 3, else 0, also at both bounds.
// Howard et al., Searching for MobileNetV3, 2019.
#pragma once
#include "kernels/activation.h"
#include "kernels/selected.h"

ONEPASS_BEGIN

template <class T>
struct Hardsigmoid {
  static constexpr const char* name = "hardsigmoid";
  static constexpr auto hyper = names();
  static ONEPASS_HD T gate(T x) {
    return math::at_most(math::at_least(x + T(3), T(0)), T(6)) / T(6);
  }
  ONEPASS_HD T forward(T x) const { return gate(x); }
  ONEPASS_HD T backward(T dy, T x) const {
    return selected(dy, x, (x > T(-3)) & (x < T(3)) ? dy / T(6) : T(0));
  }
};

ONEPASS_END
