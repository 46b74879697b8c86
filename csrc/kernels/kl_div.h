// Kullback–Leibler divergence of a target from log-probabilities x: l = t·(log t − x), dl/dx = −t;
// 0 where t = 0. With log_target the target is log t: l = exp(t)·(t − x), dl/dx = −exp(t).
#pragma once
#include "kernels/loss.h"

ONEPASS_BEGIN

template <class T, bool kLogTarget>
struct KlDivTerm {
  ONEPASS_HD LossTerm<T> operator()(T x, T t) const {
    if constexpr (kLogTarget) {
      const T p = math::exp(t);
      return {loss_parts::share(p, t - x, x), -p};
    } else {
      return {loss_parts::share(t, math::log(t) - x, x), -t};
    }
  }
};

template <class T>
struct KlDiv {
  static constexpr const char* name = "kl_div";
  static constexpr auto hyper = names("log_target");
  static constexpr OptionRange ranges[] = {OptionRange::flag};
  static constexpr bool batch_mean = true;
  using Yes = KlDivTerm<T, true>;
  using No = KlDivTerm<T, false>;
  T log_target;
  ONEPASS_HD bool flag() const { return log_target != T(0); }
  ONEPASS_HD LossTerm<T> operator()(T x, T t) const { return flag() ? Yes{}(x, t) : No{}(x, t); }
};

ONEPASS_END
