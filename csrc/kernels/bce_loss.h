// Binary cross entropy of probabilities: l = −(t·log x + (1 − t)·log(1 − x)), dl/dx = (x − t)/(x·(1
// − x)). As in PyTorch each logarithm is at least −100, and the divisor at least 1e-12.
#pragma once
#include "kernels/loss.h"

ONEPASS_BEGIN

template <class T>
struct BceLoss {
  static constexpr const char* name = "bce_loss";
  static constexpr auto hyper = names();
  static constexpr bool probabilities = true;
  ONEPASS_HD LossTerm<T> operator()(T x, T t) const {
    const T is = math::at_least(math::log(x), T(-100));
    const T is_not = math::at_least(math::log1p(-x), T(-100));
    return {(t - T(1)) * is_not - t * is, (x - t) / math::at_least((T(1) - x) * x, T(1e-12))};
  }
};

ONEPASS_END
