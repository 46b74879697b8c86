// Squared error: l = d², dl/dx = 2·d with d = x − t.
#pragma once
#include "kernels/loss.h"

ONEPASS_BEGIN

template <class T>
struct MseLoss {
  static constexpr const char* name = "mse_loss";
  static constexpr auto hyper = names();
  ONEPASS_HD LossTerm<T> operator()(T x, T t) const {
    const T d = x - t;
    return {d * d, T(2) * d};
  }
};

ONEPASS_END
