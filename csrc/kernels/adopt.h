// adopt: g += weight_decay·p, or decoupled p *= 1 - lr·weight_decay before the rest
//   the first step: v = g², nothing else;  then
//   n = clip(g/max(√v, eps), ±(t - 1)^¼);  m += (1 - β1)·(n - m);  p -= lr·m
//   v = β2·v + (1 - β2)·g²
// Taniguchi et al., ADOPT: Modified Adam Can Converge with Any β2 with the Optimal Rate, 2024, with
// the clipping of the authors' code. A first step has lr = 0 and gains of 0 and 1: v starts at 0.
#pragma once
#include "core/math.h"
#include "core/rule.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct Adopt : Rule {
  static constexpr const char* name = "adopt";
  static constexpr auto operands = names("params", "grads", "exp_avgs", "exp_avg_sqs");
  static constexpr auto hyper =
      names("lr", "beta1", "beta2", "eps", "weight_decay", "decoupled_weight_decay", "step");

  template <class T>
  struct Kernel {
    T lr, gain1, beta2, gain2, eps, coupled, shrink, most;
    ONEPASS_HD Kernel(double lr_, double beta1, double beta2_, double eps_, double weight_decay,
                      double decoupled, double step)
        : lr(T(step > 1 ? lr_ : 0)),
          gain1(T(step > 1 ? 1 - beta1 : 0)),
          beta2(T(step > 1 ? beta2_ : 1)),
          gain2(T(step > 1 ? 1 - beta2_ : 1)),
          eps(T(step > 1 ? eps_ : 1)),  // v is 0 on the first step, and eps may be
          coupled(T(decoupled != 0 ? 0 : weight_decay)),
          shrink(T(decoupled != 0 && step > 1 ? 1 - lr_ * weight_decay : 1)),
          most(T(math::sqrt(math::sqrt(step - 1)))) {}

    ONEPASS_HD T kept() const { return shrink; }

    // Values first, stores last: see adam_rule.h.
    ONEPASS_HD void operator()(T& p, T g, T& m, T& v) const {
      g = with_decay(g, coupled, p);
      const T scaled = g / math::max(math::sqrt(v), eps);
      const T low = scaled < -most ? -most : scaled;  // not math::max: its NaN costs the vectors
      const T n = low > most ? most : low;
      const T mean = m + gain1 * (n - m);
      const T to = p * shrink - lr * mean;
      const T square = beta2 * v + gain2 * g * g;
      m = mean;
      v = square;
      p = to;
    }
  };
};

ONEPASS_END
