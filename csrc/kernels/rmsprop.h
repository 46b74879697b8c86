// rmsprop: g += weight_decay·p, or decoupled p *= 1 - lr·weight_decay first;
//   v = α·v + (1 - α)·g²;  centered: a += (1 - α)·(g - a)
//   d = g / (√(v - a²) + eps);  with a buffer b = momentum·b + d, p -= lr·b;  else p -= lr·d
// A constant gradient makes v - a² vanish. Rounding may leave it below 0: it counts as 0 then,
// where PyTorch has NaN. Tieleman & Hinton, Lecture 6.5, 2012; Graves, Generating Sequences, 2013
// (centred), in PyTorch's form: eps stands outside the root, lr outside the buffer;
// Keras and optax have both inside (eps_inside, lr_inside).
#pragma once
#include "core/math.h"
#include "core/rule.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct Rmsprop : Rule {
  static constexpr const char* name = "rmsprop";
  static constexpr auto operands = names("params", "grads", "square_avgs");
  static constexpr auto optional = names("momentum_buffers", "grad_avgs");
  static constexpr auto hyper =
      names("lr", "alpha", "eps", "weight_decay", "momentum", "decoupled_weight_decay",
            "eps_inside", "lr_inside", "centered");

  template <class T, class Buffer, class Average>
  struct Kernel {
    T lr, lr_inside, alpha, gain, inside, outside, coupled, shrink, momentum;
    T moves, centered;  // -1 or 1: a choice by a bool would not be vectorised
    ONEPASS_HD Kernel(double lr_, double alpha_, double eps, double weight_decay, double momentum_,
                      double decoupled, double eps_inside, double lr_inside_, double centered_)
        : lr(T(lr_inside_ != 0 ? 1 : lr_)),
          lr_inside(T(lr_inside_ != 0 ? lr_ : 1)),
          alpha(T(alpha_)),
          gain(T(1 - alpha_)),
          inside(T(eps_inside != 0 ? eps : 0)),
          outside(T(eps_inside != 0 ? 0 : eps)),
          coupled(T(decoupled != 0 ? 0 : weight_decay)),
          shrink(T(decoupled != 0 ? 1 - lr_ * weight_decay : 1)),
          momentum(T(momentum_)),
          moves(T(momentum_ != 0 ? -1 : 1)),
          centered(T(centered_ != 0 ? -1 : 1)) {}

    ONEPASS_HD T kept() const { return shrink; }

    ONEPASS_HD void operator()(T& p, T g, T& v, Buffer b, Average a) const {
      g = with_decay(g, coupled, p);
      const T square = alpha * v + gain * g * g;
      T under = square, mean = T(0);
      if constexpr (is_present<Average>) {
        mean = a + gain * (g - a);
        under = math::where_negative(centered, math::at_least(square - mean * mean, T(0)), square);
        mean = math::where_negative(centered, mean, a);
      }
      T d = lr_inside * g / (math::sqrt(under + inside) + outside);
      // Selected: without momentum the buffer is not read, and 0 · Inf would be NaN.
      if constexpr (is_present<Buffer>) d = math::where_negative(moves, momentum * b + d, d);
      const T to = p * shrink - lr * d;
      v = square;
      if constexpr (is_present<Average>) a = mean;
      if constexpr (is_present<Buffer>) b = math::where_negative(moves, d, b);
      p = to;
    }
  };
};

ONEPASS_END
