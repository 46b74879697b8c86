// hardswish: y = x·min(max(x + 3, 0), 6)/6; y' = 0 for x <= -3, 1 for x >= 3, x/3 + 1/2 between.
// Howard et al., Searching for MobileNetV3, 2019.
//
// x ends at -3, so that -Inf gives the limit -0; dividing before the product keeps huge x finite.
#pragma once
#include "kernels/activation.h"
#include "kernels/selected.h"

ONEPASS_BEGIN

template <class T>
struct Hardswish {
  static constexpr const char* name = "hardswish";
  static constexpr auto hyper = names();
  ONEPASS_HD T forward(T x) const {
    const T gate = math::at_most(math::at_least(x + T(3), T(0)), T(6)) / T(6);
    return math::at_least(x, T(-3)) * gate;
  }
  // x/3 + 1/2 as (x + 3/2)/3, which is exact where it cancels.
  ONEPASS_HD T backward(T dy, T x) const {
    const T slope = x >= T(3) ? T(1) : (x + T(1.5)) / T(3);
    return selected(dy, x, x <= T(-3) ? T(0) : dy * slope);
  }
};

ONEPASS_END
