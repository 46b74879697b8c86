// radam: g += weight_decay·p, or decoupled p *= 1 - lr·weight_decay first; then
//   m += (1 - β1)·(g - m);  v = β2·v + (1 - β2)·g²;  m̂ = m/(1 - β1^t)
//   ρ∞ = 2/(1 - β2) - 1;  ρ = ρ∞ - 2t·β2^t/(1 - β2^t)
//   where ρ > 5: r = √((ρ - 4)(ρ - 2)ρ∞/((ρ∞ - 4)(ρ∞ - 2)ρ)),  p -= lr·r·m̂·√(1 - β2^t)/(√v + eps)
//   before that: p -= lr·m̂
// Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, 2019, in PyTorch's form.
#pragma once
#include "core/math.h"
#include "core/rule.h"

ONEPASS_BEGIN

struct RAdam : Rule {
  static constexpr const char* name = "radam";
  static constexpr auto operands = names("params", "grads", "exp_avgs", "exp_avg_sqs");
  static constexpr auto hyper =
      names("lr", "beta1", "beta2", "eps", "weight_decay", "decoupled_weight_decay", "step");

  template <class T>
  struct Kernel {
    T step_size, gain1, beta2, gain2, eps, coupled, shrink;
    bool adaptive;
    ONEPASS_HD Kernel(double lr, double beta1, double beta2_, double eps_, double weight_decay,
                      double decoupled, double step)
        : gain1(T(1 - beta1)),
          beta2(T(beta2_)),
          gain2(T(1 - beta2_)),
          eps(T(eps_)),
          coupled(T(decoupled != 0 ? 0 : weight_decay)),
          shrink(T(decoupled != 0 ? 1 - lr * weight_decay : 1)) {
      const double left = math::power(beta2_, uint64_t(step)), full = 2 / (1 - beta2_) - 1;
      const double rho = full - 2 * step * left / (1 - left);
      adaptive = rho > 5;
      const double plain = lr / (1 - math::power(beta1, uint64_t(step)));
      const double rest =
          (rho - 4) * (rho - 2) * full / ((full - 4) * (full - 2) * rho) * (1 - left);
      step_size = T(adaptive ? plain * math::sqrt(rest) : plain);
    }

    // Values first, stores last: see adam.h.
    ONEPASS_HD void operator()(T& p, T g, T& m, T& v) const {
      g = g + coupled * p;
      const T mean = m + gain1 * (g - m);
      const T square = beta2 * v + gain2 * g * g;
      const T under = adaptive ? math::sqrt(square) + eps : T(1);
      const T to = p * shrink - step_size * (mean / under);
      m = mean;
      v = square;
      p = to;
    }
  };
};

ONEPASS_END
