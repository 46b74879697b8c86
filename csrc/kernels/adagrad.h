// adagrad: g += weight_decay·p;  s += g²;  p -= lr/(1 + (t - 1)·lr_decay) · g/(√s + eps)
// Duchi, Hazan & Singer, Adaptive Subgradient Methods, 2011, in PyTorch's form.
#pragma once
#include "core/math.h"
#include "core/rule.h"

ONEPASS_BEGIN

struct Adagrad : Rule {
  static constexpr const char* name = "adagrad";
  static constexpr auto operands = names("params", "grads", "sums");
  static constexpr auto hyper = names("lr", "lr_decay", "eps", "weight_decay", "step");

  template <class T>
  struct Kernel {
    T step_size, eps, weight_decay;
    ONEPASS_HD Kernel(double lr, double lr_decay, double eps_, double weight_decay_, double step)
        : step_size(T(lr / (1 + (step - 1) * lr_decay))),
          eps(T(eps_)),
          weight_decay(T(weight_decay_)) {}

    ONEPASS_HD void operator()(T& p, T g, T& s) const {
      g = g + weight_decay * p;
      const T sum = s + g * g;
      const T to = p - step_size * (g / (math::sqrt(sum) + eps));
      s = sum;
      p = to;
    }
  };
};

ONEPASS_END
