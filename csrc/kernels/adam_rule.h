// The formula that Adam, AdamW (adam.h) and Muon (muon.h) share.
// adam:  g += weight_decay·p, then the Adam update;  adamw, and adam with decoupled_weight_decay:
// p *= 1 - lr·weight_decay first.
//   m += (1 - β1)·(g - m);  v = β2·v + (1 - β2)·g²
//   p -= lr/(1 - β1^t) · m / (√v/√(1 - β2^t) + eps)
// Without bias_correction both 1 - β^t are 1. In other libraries eps is added to √v (eps_hat),
// decay is not scaled by lr (decay_by_lr = 0) or comes after the update (decay_last). With amsgrad
// the running maximum of v replaces v, uncorrected, as in PyTorch, or that of v̂
// (amsgrad_corrected). Where amsgrad is 0 the maximum stays as it is: another group has it. Kingma
// & Ba, Adam, 2014; Loshchilov & Hutter, Decoupled Weight Decay Regularization, 2017; Reddi et al.,
// On the Convergence of Adam and Beyond, 2018.
#pragma once
#include "core/math.h"
#include "core/rule.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

template <bool kDecoupled>
struct AdamRule : Rule {
  static constexpr auto operands = names("params", "grads", "exp_avgs", "exp_avg_sqs");
  static constexpr auto optional = names("max_exp_avg_sqs");
  static constexpr auto hyper = names(
      "lr", "beta1", "beta2", "eps", "weight_decay", "bias_correction", "eps_hat", "decay_by_lr",
      "decay_last", "amsgrad_corrected", "decoupled_weight_decay", "amsgrad", "step");

  template <class T, class Maximum>
  struct Kernel {
    T step_size, gain1, beta2, gain2, eps, coupled, shrink, correction, before;
    T maximum;  // -1 with amsgrad, else 1: a choice by a bool would not be vectorised
    ONEPASS_HD Kernel(double lr, double beta1, double beta2_, double eps_, double weight_decay,
                      double bias_correction, double eps_hat, double decay_by_lr, double decay_last,
                      double amsgrad_corrected, double decoupled_, double amsgrad, double step)
        : gain1(T(1 - beta1)),
          beta2(T(beta2_)),
          gain2(T(1 - beta2_)),
          maximum(T(amsgrad != 0 ? -1 : 1)) {
      const bool decoupled = kDecoupled || decoupled_ != 0;
      const bool corrects = bias_correction != 0;
      const double fix1 = corrects ? 1 - math::power(beta1, uint64_t(step)) : 1;
      const double root2 = corrects ? math::sqrt(1 - math::power(beta2_, uint64_t(step))) : 1;
      const double left = decoupled ? 1 - (decay_by_lr != 0 ? lr : 1) * weight_decay : 1;
      step_size = T(lr / fix1 * (decay_last != 0 ? left : 1));
      eps = T(eps_hat != 0 ? eps_ / root2 : eps_);
      coupled = T(decoupled ? 0 : weight_decay);
      shrink = T(left);
      const bool sooner = amsgrad != 0 && amsgrad_corrected != 0;  // before the maximum
      correction = T(sooner ? 1 : 1 / root2);
      before = T(sooner ? 1 / (root2 * root2) : 1);
    }

    ONEPASS_HD T kept() const { return shrink; }

    // Compute everything in values and store last: the references may alias, so an early store
    // forces the compiler to reload the others.
    ONEPASS_HD void operator()(T& p, T g, T& m, T& v, Maximum v_max) const {
      if constexpr (!kDecoupled) g = with_decay(g, coupled, p);
      const T mean = m + gain1 * (g - m);
      const T square = beta2 * v + gain2 * g * g;
      T under = square;
      if constexpr (is_present<Maximum>)
        under = math::where_negative(maximum, math::max(v_max, before * square), square);
      const T to = p * shrink - step_size * (mean / (math::sqrt(under) * correction + eps));
      m = mean;
      v = square;
      if constexpr (is_present<Maximum>) v_max = math::where_negative(maximum, under, v_max);
      p = to;
    }
  };
};

ONEPASS_END
