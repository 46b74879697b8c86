// schedulefreesgd: u = g + weight_decay·y, then the move of schedule_free.h with β = momentum.
// Defazio et al., The Road Less Scheduled, 2024.
#pragma once
#include "kernels/schedule_free.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct ScheduleFreeSgd : Rule {
  static constexpr const char* name = "schedulefreesgd";
  static constexpr auto operands = names("params", "grads", "zs");
  static constexpr auto hyper =
      names("lr", "momentum", "weight_decay", "warmup_steps", "r", "weight_lr_power", "step");
  static constexpr auto scalars = names("weight_sum", "lr_max");
  static constexpr double starts[] = {0, 0};

  static ONEPASS_HD void advance(double* totals, double lr, double, double, double warmup_steps,
                                 double r, double power, double step) {
    ScheduleFree<double>::advance(totals, lr, warmup_steps, r, power, step);
  }

  template <class T>
  struct Kernel {
    T weight_decay;
    ScheduleFree<T> move;
    ONEPASS_HD Kernel(double lr, double momentum, double weight_decay_, double warmup_steps,
                      double r, double power, double step, double weight_sum, double lr_max)
        : weight_decay(T(weight_decay_)),
          move(lr, momentum, warmup_steps, r, power, step, weight_sum, lr_max) {}

    ONEPASS_HD T kept() const { return T(1); }

    ONEPASS_HD void operator()(T& y, T g, T& z) const {
      move(y, with_decay(g, weight_decay, y), z);
    }
  };
};

ONEPASS_END
