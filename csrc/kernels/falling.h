// exp(-|x|) for activations that take it times |x|: large enough to keep its digits until the end.
#pragma once
#include "core/math.h"

ONEPASS_BEGIN

template <class T>
struct Falling {
  T t, lifted;  // |x|, up to where t·exp(-t) is 0; and exp(-t) / kDown
  static constexpr T kDown = math::Format<T>::kDown;

  explicit ONEPASS_HD Falling(T x)
      : t(math::at_most(math::abs(x), sizeof(T) == 4 ? T(109) : T(752))),
        lifted(math::exp_lifted(t, T(-1))) {}
};

ONEPASS_END
