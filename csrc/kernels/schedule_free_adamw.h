// schedulefreeadamw: v = β2·v + (1 - β2)·g²;  u = g/(√v/√(1 - β2^t) + eps) + weight_decay·y
//   then the move of schedule_free.h with β = β1.
// Defazio et al., The Road Less Scheduled, 2024.
#pragma once
#include "kernels/schedule_free.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct ScheduleFreeAdamW : Rule {
  static constexpr const char* name = "schedulefreeadamw";
  static constexpr auto operands = names("params", "grads", "zs", "exp_avg_sqs");
  static constexpr auto hyper = names("lr", "beta1", "beta2", "eps", "weight_decay", "warmup_steps",
                                      "r", "weight_lr_power", "step");
  static constexpr auto scalars = names("weight_sum", "lr_max");
  static constexpr double starts[] = {0, 0};

  static ONEPASS_HD void advance(double* totals, double lr, double, double, double, double,
                                 double warmup_steps, double r, double power, double step) {
    ScheduleFree<double>::advance(totals, lr, warmup_steps, r, power, step);
  }

  template <class T>
  struct Kernel {
    T beta2, gain2, eps, weight_decay, correction;
    ScheduleFree<T> move;
    ONEPASS_HD Kernel(double lr, double beta1, double beta2_, double eps_, double weight_decay_,
                      double warmup_steps, double r, double power, double step, double weight_sum,
                      double lr_max)
        : beta2(T(beta2_)),
          gain2(T(1 - beta2_)),
          eps(T(eps_)),
          weight_decay(T(weight_decay_)),
          correction(T(1 / math::sqrt(1 - math::power(beta2_, uint64_t(step))))),
          move(lr, beta1, warmup_steps, r, power, step, weight_sum, lr_max) {}

    ONEPASS_HD T kept() const { return T(1); }

    ONEPASS_HD void operator()(T& y, T g, T& z, T& v) const {
      const T square = beta2 * v + gain2 * g * g;
      const T u = with_decay(g / (math::sqrt(square) * correction + eps), weight_decay, y);
      move(y, u, z);
      v = square;
    }
  };
};

ONEPASS_END
