// asgd: g += weight_decay·p;  p *= 1 - lambd·η;  p -= η·g;  ax += μ·(p - ax), or ax = p where μ = 1
//   after that η = lr/(1 + lambd·lr·t)^α and μ = 1/max(1, t - t0), for the next step;
//   at first η = lr and μ = 1
// Polyak & Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; Bottou,
// Stochastic Gradient Descent, 2010 (the schedule of η), in PyTorch's form. η is a scalar of the
// parameter and not a function of t: a new lr takes effect one step later. lambd is not a weight
// decay beside the update: Bottou's step is that of the loss with lambd/2·‖p‖². So kept() is 1.
#pragma once
#include "core/math.h"
#include "core/rule.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct Asgd : Rule {
  static constexpr const char* name = "asgd";
  static constexpr auto operands = names("params", "grads", "axs");
  static constexpr auto hyper = names("lr", "lambd", "alpha", "t0", "weight_decay", "step");
  static constexpr auto scalars = names("eta", "mu");
  static constexpr double starts[] = {0, 0};  // the first step reads neither
  static constexpr bool advances_first = false;

  static ONEPASS_HD void advance(double* eta_mu, double lr, double lambd, double alpha, double t0,
                                 double, double step) {
    eta_mu[0] = lr / math::real_power(1 + lambd * lr * step, alpha);
    eta_mu[1] = 1 / math::max(1.0, step - t0);
  }

  template <class T>
  struct Kernel {
    T eta, shrink, weight_decay, mu;
    bool averages;
    ONEPASS_HD Kernel(double lr, double lambd, double, double, double weight_decay_, double step,
                      double eta_, double mu_)
        : eta(T(step > 1 ? eta_ : lr)),
          shrink(T(1 - lambd * (step > 1 ? eta_ : lr))),
          weight_decay(T(weight_decay_)),
          mu(T(mu_)),
          averages(step > 1 && mu_ != 1) {}

    ONEPASS_HD T kept() const { return T(1); }

    ONEPASS_HD void operator()(T& p, T g, T& ax) const {
      g = with_decay(g, weight_decay, p);
      const T to = p * shrink - eta * g;
      const T mean = ax + mu * (to - ax);
      ax = averages ? mean : to;
      p = to;
    }
  };
};

ONEPASS_END
