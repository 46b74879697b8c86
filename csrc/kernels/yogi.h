// yogi: g += weight_decay·p, then Adam with an additive second moment:
//   m += (1 - β1)·(g - m);  v -= (1 - β2)·sign(v - g²)·g²
//   p -= lr/(1 - β1^t) · m / (√v/√(1 - β2^t) + eps)
// Zaheer, Reddi, Sachan, Kale & Kumar, Adaptive Methods for Nonconvex Optimization, 2018; both
// moments start at 0.
#pragma once
#include "core/math.h"
#include "core/rule.h"

ONEPASS_BEGIN

struct Yogi : Rule {
  static constexpr const char* name = "yogi";
  static constexpr auto operands = names("params", "grads", "exp_avgs", "exp_avg_sqs");
  static constexpr auto hyper = names("lr", "beta1", "beta2", "eps", "weight_decay", "step");

  template <class T>
  struct Kernel {
    T step_size, gain1, gain2, eps, weight_decay, correction;
    ONEPASS_HD Kernel(double lr, double beta1, double beta2, double eps_, double weight_decay_,
                      double step)
        : step_size(T(lr / (1 - math::power(beta1, uint64_t(step))))),
          gain1(T(1 - beta1)),
          gain2(T(1 - beta2)),
          eps(T(eps_)),
          weight_decay(T(weight_decay_)),
          correction(T(1 / math::sqrt(1 - math::power(beta2, uint64_t(step))))) {}

    // Values first, stores last: see adam.h. sign(0) is 0: v stays. A NaN v or g gives NaN.
    ONEPASS_HD void operator()(T& p, T g, T& m, T& v) const {
      g = g + weight_decay * p;
      const T mean = m + gain1 * (g - m), g2 = g * g, move = gain2 * g2;
      const T square = v < g2 ? v + move : v > g2 ? v - move : v + T(0) * g2;
      const T to = p - step_size * (mean / (math::sqrt(square) * correction + eps));
      m = mean;
      v = square;
      p = to;
    }
  };
};

ONEPASS_END
