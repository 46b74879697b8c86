// The step of a schedule-free optimizer along its direction u; the parameter holds y:
//   lr_t = lr·min(1, t/warmup_steps);  w = t^r·lr_max^weight_lr_power;  c = w/Σw
//   y += c·(z - y) + lr_t·(β·(1 - c) - 1)·u;  z -= lr_t·u;  before the first step z = y
// The average x, which one evaluates at, is not stored: y = (1 - β)·z + β·x.
// Defazio et al., The Road Less Scheduled, 2024, as in the authors' package schedulefree. Σw and
// lr_max, the largest lr_t so far, are scalars of the parameter.
#pragma once
#include "core/math.h"
#include "core/rule.h"

ONEPASS_BEGIN

// The constants of a step, in double, and what a step does with u. Σw and lr_max include this step.
template <class T>
struct ScheduleFree {
  T average, ahead, rate;
  bool first;

  static ONEPASS_HD double rate_at(double lr, double warmup_steps, double step) {
    return step < warmup_steps ? lr * (step / warmup_steps) : lr;
  }
  static ONEPASS_HD double weight_at(double lr_max, double r, double power, double step) {
    return math::real_power(step, r) * math::real_power(lr_max, power);
  }
  static ONEPASS_HD void advance(double* totals, double lr, double warmup_steps, double r,
                                 double power, double step) {
    totals[1] = math::max(totals[1], rate_at(lr, warmup_steps, step));
    totals[0] += weight_at(totals[1], r, power, step);
  }

  ONEPASS_HD ScheduleFree(double lr, double beta, double warmup_steps, double r, double power,
                          double step, double weight_sum, double lr_max)
      : first(step <= 1) {
    const double rate_t = rate_at(lr, warmup_steps, step);
    const double c = weight_sum > 0 ? weight_at(lr_max, r, power, step) / weight_sum : 0;
    rate = T(rate_t);
    average = T(c);
    ahead = T(rate_t * (beta * (1 - c) - 1));
  }
  ONEPASS_HD void operator()(T& y, T u, T& z) const {
    const T from = first ? y : z;  // selected: an uninitialised z may hold NaN
    const T to = y + average * (from - y) + ahead * u;
    z = from - rate * u;
    y = to;
  }
};

ONEPASS_END
