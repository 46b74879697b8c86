// ademamix: m1 += (1 - β1)·(g - m1);  m2 += (1 - β3)·(g - m2);  v = β2·v + (1 - β2)·g²
//   p -= lr·((m1/(1 - β1^t) + α·m2)/(√v/√(1 - β2^t) + eps) + weight_decay·p)
// Over the first `total_steps` steps α grows from 0 and β3 from β1, by its half-life: with s = t/T
// α_t = s·α and 1/log β3_t = (1 - s)/log β1 + s/log β3.
// Pagliardini, Ablin & Grangier, The AdEMAMix Optimizer: Better, Faster, Older, 2024.
#pragma once
#include "core/math.h"
#include "core/rule.h"

ONEPASS_BEGIN

struct AdEMAMix : Rule {
  static constexpr const char* name = "ademamix";
  static constexpr auto operands =
      names("params", "grads", "exp_avg_fasts", "exp_avg_slows", "exp_avg_sqs");
  static constexpr auto hyper =
      names("lr", "beta1", "beta2", "beta3", "alpha", "eps", "weight_decay", "total_steps", "step");

  // β3 at a part of the way, which is above 0. A β of 0 has the logarithm -Inf: of β1 it drops out.
  static ONEPASS_HD double beta3_at(double part, double beta1, double beta3) {
    if (part >= 1 || beta3 == 0) return beta3;
    const double log3 = math::log(beta3);
    return math::exp(log3 / ((1 - part) * (log3 / math::log(beta1)) + part));
  }

  template <class T>
  struct Kernel {
    T gain1, beta2, gain2, gain3, fast, slow, eps, shrink, correction;
    ONEPASS_HD Kernel(double lr, double beta1, double beta2_, double beta3, double alpha,
                      double eps_, double weight_decay, double total_steps, double step)
        : gain1(T(1 - beta1)),
          beta2(T(beta2_)),
          gain2(T(1 - beta2_)),
          fast(T(lr / (1 - math::power(beta1, uint64_t(step))))),
          eps(T(eps_)),
          shrink(T(1 - lr * weight_decay)),
          correction(T(1 / math::sqrt(1 - math::power(beta2_, uint64_t(step))))) {
      const double part = step < total_steps ? step / total_steps : 1;
      gain3 = T(1 - beta3_at(part, beta1, beta3));
      slow = T(lr * part * alpha);
    }

    ONEPASS_HD T kept() const { return shrink; }

    // Values first, stores last: see adam_rule.h.
    ONEPASS_HD void operator()(T& p, T g, T& m1, T& m2, T& v) const {
      const T mean1 = m1 + gain1 * (g - m1);
      const T mean2 = m2 + gain3 * (g - m2);
      const T square = beta2 * v + gain2 * g * g;
      const T to =
          p * shrink - (fast * mean1 + slow * mean2) / (math::sqrt(square) * correction + eps);
      m1 = mean1;
      m2 = mean2;
      v = square;
      p = to;
    }
  };
};

ONEPASS_END
