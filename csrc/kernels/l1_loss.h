// Absolute error: l = |d|, dl/dx = sign(d) with d = x − t; 0 at d = 0.
#pragma once
#include "kernels/loss.h"

ONEPASS_BEGIN

template <class T>
struct L1Loss {
  static constexpr const char* name = "l1_loss";
  static constexpr auto hyper = names();
  ONEPASS_HD LossTerm<T> operator()(T x, T t) const {
    const T d = x - t;
    return {math::abs(d), loss_parts::direction(d)};
  }
};

ONEPASS_END
