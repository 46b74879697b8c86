// Smooth L1: l = ½·d²/β if |d| < β, else |d| − ½·β, with d = x − t. dl/dx = d/β, or sign(d).
// β = 0 is the absolute error.
// Girshick, Fast R-CNN, 2015, with β = 1; PyTorch has the β.
#pragma once
#include "kernels/loss.h"

ONEPASS_BEGIN

template <class T>
struct SmoothL1Loss {
  static constexpr const char* name = "smooth_l1_loss";
  static constexpr auto hyper = names("beta");
  static constexpr OptionRange ranges[] = {OptionRange::from_zero};
  T beta;
  ONEPASS_HD LossTerm<T> operator()(T x, T t) const {
    const T d = x - t, a = math::abs(d), r = d / beta;
    const bool near = a < beta;
    return {near ? T(0.5) * d * r : a - T(0.5) * beta, near ? r : loss_parts::direction(d)};
  }
};

ONEPASS_END
