// adam:  g += weight_decay·p, then the Adam update;  adamw: p *= 1 - lr·weight_decay first.
//   m += (1 - β1)·(g - m);  v = β2·v + (1 - β2)·g²
//   p -= lr/(1 - β1^t) · m / (√v/√(1 - β2^t) + eps)
// amsgrad divides by the running maximum of v (uncorrected, as PyTorch does) instead of v.
// Kingma & Ba, Adam, 2014; Loshchilov & Hutter, Decoupled Weight Decay Regularization, 2017;
// Reddi et al., On the Convergence of Adam and Beyond, 2018.
#pragma once
#include "core/math.h"
#include "core/signature.h"

ONEPASS_BEGIN

template <class T, bool kDecoupled>
struct AdamRule {
  static constexpr auto hyper = names("lr", "beta1", "beta2", "eps", "weight_decay", "step");
  T step_size, gain1, beta2, gain2, eps, decay, correction;

  ONEPASS_HD AdamRule(double lr, double beta1, double beta2_, double eps_, double weight_decay,
                      double step)
      : step_size(T(lr / (1 - math::power(beta1, uint64_t(step))))),
        gain1(T(1 - beta1)),
        beta2(T(beta2_)),
        gain2(T(1 - beta2_)),
        eps(T(eps_)),
        decay(T(kDecoupled ? 1 - lr * weight_decay : weight_decay)),
        correction(T(1 / math::sqrt(1 - math::power(beta2_, uint64_t(step))))) {}

  // Values in, values out, stored at the end: what is written through one reference early has to be
  // stored before another one is read, since it might be the same memory.
  struct Moments {
    T m, v;
  };
  ONEPASS_HD Moments moments(T p, T g, T m, T v) const {
    if constexpr (!kDecoupled) g = g + decay * p;
    return {m + gain1 * (g - m), beta2 * v + gain2 * g * g};
  }
  ONEPASS_HD T moved(T p, T m, T v) const {
    if constexpr (kDecoupled) p = p * decay;
    return p - step_size * (m / (math::sqrt(v) * correction + eps));
  }
};

template <class T, bool kDecoupled>
struct AdamPlain : AdamRule<T, kDecoupled> {
  static constexpr auto operands = names("params", "grads", "exp_avgs", "exp_avg_sqs");
  using AdamRule<T, kDecoupled>::AdamRule;
  ONEPASS_HD void operator()(T& p, T g, T& m, T& v) const {
    const auto next = this->moments(p, g, m, v);
    const T to = this->moved(p, next.m, next.v);
    m = next.m;
    v = next.v;
    p = to;
  }
};

template <class T, bool kDecoupled>
struct AdamMaximum : AdamRule<T, kDecoupled> {
  static constexpr auto operands =
      names("params", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs");
  using AdamRule<T, kDecoupled>::AdamRule;
  ONEPASS_HD void operator()(T& p, T g, T& m, T& v, T& v_max) const {
    const auto next = this->moments(p, g, m, v);
    const T most = math::max(v_max, next.v);
    const T to = this->moved(p, next.m, most);
    m = next.m;
    v = next.v;
    v_max = most;
    p = to;
  }
};

template <class T>
struct Adam : AdamPlain<T, false> {
  static constexpr const char* name = "adam";
  using AdamPlain<T, false>::AdamPlain;
};
template <class T>
struct AdamAmsgrad : AdamMaximum<T, false> {
  static constexpr const char* name = "adam_amsgrad";
  using AdamMaximum<T, false>::AdamMaximum;
};
template <class T>
struct AdamW : AdamPlain<T, true> {
  static constexpr const char* name = "adamw";
  using AdamPlain<T, true>::AdamPlain;
};
template <class T>
struct AdamWAmsgrad : AdamMaximum<T, true> {
  static constexpr const char* name = "adamw_amsgrad";
  using AdamMaximum<T, true>::AdamMaximum;
};

ONEPASS_END
