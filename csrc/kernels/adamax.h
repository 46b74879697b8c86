// adamax: g += weight_decay·p, or decoupled p *= 1 - lr·weight_decay first;
//   m += (1 - β1)·(g - m);  u = max(β2·u, |g| + eps)
//   p -= lr/(1 - β1^t) · m/u;  without bias_correction 1 - β1^t is 1
// In Keras eps stands beside u (eps_outside).
// Kingma & Ba, Adam, 2014, §7.1, in PyTorch's form: eps stands beside |g|.
#pragma once
#include "core/math.h"
#include "core/rule.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct Adamax : Rule {
  static constexpr const char* name = "adamax";
  static constexpr auto operands = names("params", "grads", "exp_avgs", "exp_infs");
  static constexpr auto hyper =
      names("lr", "beta1", "beta2", "eps", "weight_decay", "bias_correction",
            "decoupled_weight_decay", "eps_outside", "step");

  template <class T>
  struct Kernel {
    T step_size, gain, beta2, inside, outside, coupled, shrink;
    ONEPASS_HD Kernel(double lr, double beta1, double beta2_, double eps_, double weight_decay,
                      double bias_correction, double decoupled, double eps_outside, double step)
        : step_size(T(bias_correction != 0 ? lr / (1 - math::power(beta1, uint64_t(step))) : lr)),
          gain(T(1 - beta1)),
          beta2(T(beta2_)),
          inside(T(eps_outside != 0 ? 0 : eps_)),
          outside(T(eps_outside != 0 ? eps_ : 0)),
          coupled(T(decoupled != 0 ? 0 : weight_decay)),
          shrink(T(decoupled != 0 ? 1 - lr * weight_decay : 1)) {}

    ONEPASS_HD T kept() const { return shrink; }

    ONEPASS_HD void operator()(T& p, T g, T& m, T& u) const {
      g = with_decay(g, coupled, p);
      const T mean = m + gain * (g - m);
      const T largest = math::max(beta2 * u, math::abs(g) + inside);
      const T to = p * shrink - step_size * (mean / (largest + outside));
      m = mean;
      u = largest;
      p = to;
    }
  };
};

ONEPASS_END
