// adadelta: g += weight_decay·p, or decoupled p *= 1 - lr·weight_decay first;
//   v = ρ·v + (1 - ρ)·g²;  d = √(u + eps)/√(v + eps)·g
//   u = ρ·u + (1 - ρ)·d²;  p -= lr·d
// Zeiler, ADADELTA: An Adaptive Learning Rate Method, 2012.
#pragma once
#include "core/math.h"
#include "core/rule.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct Adadelta : Rule {
  static constexpr const char* name = "adadelta";
  static constexpr auto operands = names("params", "grads", "square_avgs", "acc_deltas");
  static constexpr auto hyper = names("lr", "rho", "eps", "weight_decay", "decoupled_weight_decay");

  template <class T>
  struct Kernel {
    T lr, rho, gain, eps, coupled, shrink;
    ONEPASS_HD Kernel(double lr_, double rho_, double eps_, double weight_decay, double decoupled)
        : lr(T(lr_)),
          rho(T(rho_)),
          gain(T(1 - rho_)),
          eps(T(eps_)),
          coupled(T(decoupled != 0 ? 0 : weight_decay)),
          shrink(T(decoupled != 0 ? 1 - lr_ * weight_decay : 1)) {}

    ONEPASS_HD T kept() const { return shrink; }

    ONEPASS_HD void operator()(T& p, T g, T& v, T& u) const {
      g = with_decay(g, coupled, p);
      const T square = rho * v + gain * g * g;
      const T d = math::sqrt(u + eps) / math::sqrt(square + eps) * g;
      const T moved = rho * u + gain * d * d;
      const T to = p * shrink - lr * d;
      v = square;
      u = moved;
      p = to;
    }
  };
};

ONEPASS_END
