// adamax: g += weight_decay·p;  m += (1 - β1)·(g - m);  u = max(β2·u, |g| + eps)
//   p -= lr/(1 - β1^t) · m/u
// Kingma & Ba, Adam, 2014, §7.1, in PyTorch's form: eps stands beside |g|.
#pragma once
#include "core/math.h"
#include "core/rule.h"

ONEPASS_BEGIN

struct Adamax : Rule {
  static constexpr const char* name = "adamax";
  static constexpr auto operands = names("params", "grads", "exp_avgs", "exp_infs");
  static constexpr auto hyper = names("lr", "beta1", "beta2", "eps", "weight_decay", "step");

  template <class T>
  struct Kernel {
    T step_size, gain, beta2, eps, weight_decay;
    ONEPASS_HD Kernel(double lr, double beta1, double beta2_, double eps_, double weight_decay_,
                      double step)
        : step_size(T(lr / (1 - math::power(beta1, uint64_t(step))))),
          gain(T(1 - beta1)),
          beta2(T(beta2_)),
          eps(T(eps_)),
          weight_decay(T(weight_decay_)) {}

    ONEPASS_HD void operator()(T& p, T g, T& m, T& u) const {
      g = g + weight_decay * p;
      const T mean = m + gain * (g - m);
      const T largest = math::max(beta2 * u, math::abs(g) + eps);
      const T to = p - step_size * (mean / largest);
      m = mean;
      u = largest;
      p = to;
    }
  };
};

ONEPASS_END
