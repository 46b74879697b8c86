// nadam: g += weight_decay·p, or decoupled p *= 1 - lr·weight_decay first; then
//   m += (1 - β1)·(g - m);  v = β2·v + (1 - β2)·g²
//   μ_t = β1·(1 - 0.96^(t·momentum_decay)/2);  P_t = P_{t-1}·μ_t, P_0 = 1
//   p -= lr·((1 - μ_t)/(1 - P_t)·g + μ_{t+1}/(1 - P_t·μ_{t+1})·m) / (√v/√(1 - β2^t) + eps)
// Dozat, Incorporating Nesterov Momentum into Adam, 2016, in PyTorch's form. Without
// bias_correction P and β2^t are 0 in the last line. P is a scalar of the parameter and not a
// function of t: β1 may change between steps.
#pragma once
#include "core/math.h"
#include "core/rule.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct NAdam : Rule {
  static constexpr const char* name = "nadam";
  static constexpr auto operands = names("params", "grads", "exp_avgs", "exp_avg_sqs");
  static constexpr auto hyper =
      names("lr", "beta1", "beta2", "eps", "weight_decay", "momentum_decay",
            "decoupled_weight_decay", "bias_correction", "step");
  static constexpr auto scalars = names("mu_product");
  static constexpr double starts[] = {1};

  static ONEPASS_HD double mu(double beta1, double momentum_decay, double step) {
    constexpr double kLog096 = -0x1.4e69ed6d80eb3p-5;  // log 0.96
    return beta1 * (1 - 0.5 * math::exp(step * momentum_decay * kLog096));
  }
  static ONEPASS_HD void advance(double* mu_product, double, double beta1, double, double, double,
                                 double momentum_decay, double, double, double step) {
    *mu_product *= mu(beta1, momentum_decay, step);
  }

  template <class T>
  struct Kernel {
    T of_grad, of_mean, gain1, beta2, gain2, eps, coupled, shrink, correction;
    ONEPASS_HD Kernel(double lr, double beta1, double beta2_, double eps_, double weight_decay,
                      double momentum_decay, double decoupled, double bias_correction, double step,
                      double mu_product)
        : gain1(T(1 - beta1)),
          beta2(T(beta2_)),
          gain2(T(1 - beta2_)),
          eps(T(eps_)),
          coupled(T(decoupled != 0 ? 0 : weight_decay)),
          shrink(T(decoupled != 0 ? 1 - lr * weight_decay : 1)),
          correction(T(
              bias_correction != 0 ? 1 / math::sqrt(1 - math::power(beta2_, uint64_t(step))) : 1)) {
      const double product = bias_correction != 0 ? mu_product : 0;
      const double next = mu(beta1, momentum_decay, step + 1);
      of_grad = T(lr * (1 - mu(beta1, momentum_decay, step)) / (1 - product));
      of_mean = T(lr * next / (1 - product * next));
    }

    ONEPASS_HD T kept() const { return shrink; }

    // Values first, stores last: see adam_rule.h.
    ONEPASS_HD void operator()(T& p, T g, T& m, T& v) const {
      g = with_decay(g, coupled, p);
      const T mean = m + gain1 * (g - m);
      const T square = beta2 * v + gain2 * g * g;
      const T to =
          p * shrink - (of_grad * g + of_mean * mean) / (math::sqrt(square) * correction + eps);
      m = mean;
      v = square;
      p = to;
    }
  };
};

ONEPASS_END
