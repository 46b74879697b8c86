// |x| and exp(|x|) for activations that take |x| times exp(-|x|).
#pragma once
#include "core/math.h"

ONEPASS_BEGIN

template <class T>
struct Falling {
  T t;  // |x|, up to where t·exp(-t) is 0
  math::Rising<T> e;

  explicit ONEPASS_HD Falling(T x)
      : t(math::at_most(math::abs(x), sizeof(T) == 4 ? T(109) : T(752))), e(math::rising(t)) {}
};

ONEPASS_END
