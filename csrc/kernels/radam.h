// radam: g += weight_decay·p, or decoupled p *= 1 - lr·weight_decay first; then
//   m += (1 - β1)·(g - m);  v = β2·v + (1 - β2)·g²;  m̂ = m/(1 - β1^t)
//   ρ∞ = 2/(1 - β2) - 1;  ρ = ρ∞ - 2t·β2^t/(1 - β2^t)
//   where ρ > 5: r = √((ρ - 4)(ρ - 2)ρ∞/((ρ∞ - 4)(ρ∞ - 2)ρ)),  p -= lr·r·m̂·√(1 - β2^t)/(√v + eps)
//   before that: p -= lr·m̂
// Without bias_correction m̂ is m and the root of 1 - β2^t is 1. Elsewhere eps stands beside the
// corrected √v (eps_corrected), decay comes after the update (decay_last), or t is a step ahead
// (steps_ahead).
// Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, 2019, in PyTorch's form.
#pragma once
#include "core/math.h"
#include "core/rule.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct RAdam : Rule {
  static constexpr const char* name = "radam";
  static constexpr auto operands = names("params", "grads", "exp_avgs", "exp_avg_sqs");
  static constexpr auto hyper =
      names("lr", "beta1", "beta2", "eps", "weight_decay", "decoupled_weight_decay",
            "bias_correction", "eps_corrected", "decay_last", "steps_ahead", "step");

  template <class T>
  struct Kernel {
    T step_size, gain1, beta2, gain2, eps, coupled, shrink;
    bool adaptive;
    ONEPASS_HD Kernel(double lr, double beta1, double beta2_, double eps_, double weight_decay,
                      double decoupled, double bias_correction, double eps_corrected,
                      double decay_last, double steps_ahead, double step_)
        : gain1(T(1 - beta1)),
          beta2(T(beta2_)),
          gain2(T(1 - beta2_)),
          coupled(T(decoupled != 0 ? 0 : weight_decay)),
          shrink(T(decoupled != 0 ? 1 - lr * weight_decay : 1)) {
      const double step = step_ + steps_ahead;
      const bool corrects = bias_correction != 0;
      const double left = math::power(beta2_, uint64_t(step)), full = 2 / (1 - beta2_) - 1;
      const double rho = full - 2 * step * left / (1 - left);
      adaptive = rho > 5;
      const double fix1 = corrects ? 1 - math::power(beta1, uint64_t(step)) : 1;
      const double fix2 = corrects ? 1 - left : 1;
      const double last = decoupled != 0 && decay_last != 0 ? 1 - lr * weight_decay : 1;
      const double plain = lr / fix1 * last;
      const double rest = (rho - 4) * (rho - 2) * full / ((full - 4) * (full - 2) * rho) * fix2;
      step_size = T(adaptive ? plain * math::sqrt(rest) : plain);
      eps = T(eps_corrected != 0 ? eps_ * math::sqrt(fix2) : eps_);
    }

    ONEPASS_HD T kept() const { return shrink; }

    // Values first, stores last: see adam_rule.h.
    ONEPASS_HD void operator()(T& p, T g, T& m, T& v) const {
      g = with_decay(g, coupled, p);
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
