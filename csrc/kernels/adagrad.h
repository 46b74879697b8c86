// adagrad: g += weight_decay·p, or decoupled p *= 1 - lr·weight_decay first;
//   s += g²;  p -= lr/(1 + (t - 1)·lr_decay) · g/(√s + eps)
// Duchi, Hazan & Singer, Adaptive Subgradient Methods, 2011, in PyTorch's form. Keras and optax
// have eps under the root (eps_inside).
#pragma once
#include "core/math.h"
#include "core/rule.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct Adagrad : Rule {
  static constexpr const char* name = "adagrad";
  static constexpr auto operands = names("params", "grads", "sums");
  static constexpr auto hyper = names("lr", "lr_decay", "eps", "weight_decay",
                                      "decoupled_weight_decay", "eps_inside", "step");

  template <class T>
  struct Kernel {
    T step_size, inside, outside, coupled, shrink;
    ONEPASS_HD Kernel(double lr, double lr_decay, double eps, double weight_decay, double decoupled,
                      double eps_inside, double step)
        : step_size(T(lr / (1 + (step - 1) * lr_decay))),
          inside(T(eps_inside != 0 ? eps : 0)),
          outside(T(eps_inside != 0 ? 0 : eps)),
          coupled(T(decoupled != 0 ? 0 : weight_decay)),
          shrink(T(decoupled != 0 ? 1 - lr * weight_decay : 1)) {}

    ONEPASS_HD T kept() const { return shrink; }

    ONEPASS_HD void operator()(T& p, T g, T& s) const {
      g = with_decay(g, coupled, p);
      const T sum = s + g * g;
      const T to = p * shrink - step_size * (g / (math::sqrt(sum + inside) + outside));
      s = sum;
      p = to;
    }
  };
};

ONEPASS_END
