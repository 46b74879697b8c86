// lion: p *= 1 - lr·weight_decay, then p -= lr·sign(β1·m + (1 - β1)·g) with sign(0) = 0;
//   m = β2·m + (1 - β2)·g
// Chen et al., Symbolic Discovery of Optimization Algorithms, 2023.
#pragma once
#include "core/rule.h"

ONEPASS_BEGIN

struct Lion : Rule {
  static constexpr const char* name = "lion";
  static constexpr auto operands = names("params", "grads", "exp_avgs");
  static constexpr auto hyper = names("lr", "beta1", "beta2", "weight_decay");

  template <class T>
  struct Kernel {
    T lr, beta1, gain1, beta2, gain2, shrink;
    ONEPASS_HD Kernel(double lr_, double beta1_, double beta2_, double weight_decay)
        : lr(T(lr_)),
          beta1(T(beta1_)),
          gain1(T(1 - beta1_)),
          beta2(T(beta2_)),
          gain2(T(1 - beta2_)),
          shrink(T(1 - lr_ * weight_decay)) {}

    ONEPASS_HD T kept() const { return shrink; }

    // Values first, stores last: see adam_rule.h.
    ONEPASS_HD void operator()(T& p, T g, T& m) const {
      const T ahead = beta1 * m + gain1 * g;
      const T sign = ahead > 0 ? T(1) : ahead < 0 ? T(-1) : ahead;  // 0 and NaN stay
      const T mean = beta2 * m + gain2 * g;
      p = p * shrink - lr * sign;
      m = mean;
    }
  };
};

ONEPASS_END
