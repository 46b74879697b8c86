// lamb: m += (1 - β1)·(g - m);  v = β2·v + (1 - β2)·g²
//   u = m/(1 - β1^t) / (√v/√(1 - β2^t) + eps) + weight_decay·p
//   p -= lr·‖p‖/‖u‖·u;  lr·u where a norm is 0, and, unless adapts_undecayed, without decay
// The norms are those of each tensor. The first pass leaves the averages, so the second computes u
// again instead of reading it. You et al., Large Batch Optimization for Deep Learning, 2019.
#pragma once
#include "core/math.h"
#include "core/rule.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct Lamb : Rule {
  static constexpr const char* name = "lamb";
  static constexpr auto operands = names("params", "grads", "exp_avgs", "exp_avg_sqs");
  static constexpr auto hyper =
      names("lr", "beta1", "beta2", "eps", "weight_decay", "adapts_undecayed", "step");
  static constexpr auto norms = names("params", "updates");

  template <class T>
  struct Direction {
    T of_mean, correction, eps, weight_decay;
    ONEPASS_HD Direction(double beta1, double beta2, double eps_, double weight_decay_, double step)
        : of_mean(T(1 / (1 - math::power(beta1, uint64_t(step))))),
          correction(T(1 / math::sqrt(1 - math::power(beta2, uint64_t(step))))),
          eps(T(eps_)),
          weight_decay(T(weight_decay_)) {}
    ONEPASS_HD T operator()(T p, T m, T v) const {
      return with_decay(of_mean * m / (math::sqrt(v) * correction + eps), weight_decay, p);
    }
  };

  template <class T>
  struct Measure {
    Direction<T> direction;
    T gain1, beta2, gain2;
    ONEPASS_HD Measure(double, double beta1, double beta2_, double eps, double weight_decay, double,
                       double step)
        : direction(beta1, beta2_, eps, weight_decay, step),
          gain1(T(1 - beta1)),
          beta2(T(beta2_)),
          gain2(T(1 - beta2_)) {}
    // Values first, stores last: see adam_rule.h.
    ONEPASS_HD Terms<T, 2> operator()(T p, T g, T& m, T& v) const {
      const T mean = m + gain1 * (g - m);
      const T square = beta2 * v + gain2 * g * g;
      m = mean;
      v = square;
      return {{p, direction(p, mean, square)}};
    }
  };

  template <class T>
  struct Kernel {
    Direction<T> direction;
    double rate;
    bool adapts;
    T size;
    ONEPASS_HD Kernel(double lr, double beta1, double beta2, double eps, double weight_decay,
                      double adapts_undecayed, double step)
        : direction(beta1, beta2, eps, weight_decay, step),
          rate(lr),
          adapts(adapts_undecayed != 0 || weight_decay != 0),
          size(T(lr)) {}
    ONEPASS_HD void take(const double* norms) {
      const double p = norms[0], u = norms[1];
      size = T(!adapts || p == 0 || u == 0 ? rate : rate * (p / u));
    }
    ONEPASS_HD T kept() const { return T(1); }
    ONEPASS_HD void operator()(T& p, Unread, T m, T v) const { p -= size * direction(p, m, v); }
  };
};

ONEPASS_END
