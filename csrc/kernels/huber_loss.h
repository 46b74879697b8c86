// Huber: l = ½·d² if |d| <= δ, else δ·(|d| − ½·δ), with d = x − t. dl/dx = d, or δ·sign(d).
// Huber, Robust Estimation of a Location Parameter, 1964.
#pragma once
#include "kernels/loss.h"

ONEPASS_BEGIN

template <class T>
struct HuberLoss {
  static constexpr const char* name = "huber_loss";
  static constexpr auto hyper = names("delta");
  static constexpr OptionRange ranges[] = {OptionRange::above_zero};
  T delta;
  ONEPASS_HD LossTerm<T> operator()(T x, T t) const {
    const T d = x - t, a = math::abs(d);
    const bool near = a <= delta;
    return {near ? T(0.5) * d * d : delta * (a - T(0.5) * delta),
            near ? d : delta * loss_parts::direction(d)};
  }
};

ONEPASS_END
