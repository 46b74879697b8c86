// Binary cross entropy of logits: l = w·t·softplus(−x) + (1 − t)·softplus(x), w being pos_weight.
//   dl/dx = (1 − t)·sigmoid(x) − w·t·sigmoid(−x)
// softplus(x) = max(x, 0) + log(1 + e) and the sigmoids 1/(1 + e) and e/(1 + e), e = exp(−|x|),
// hold for any logit: no exponential exceeds 1 and no difference cancels.
#pragma once
#include "kernels/loss.h"

ONEPASS_BEGIN

template <class T>
struct BceWithLogits {
  static constexpr const char* name = "bce_with_logits";
  static constexpr auto hyper = names();
  static constexpr bool pos_weight = true;
  ONEPASS_HD LossTerm<T> operator()(T x, T t, T w) const {
    const T e = math::exp_down(-math::abs(x)), both = math::log1p(e);
    const T large = T(1) / (T(1) + e), small = e / (T(1) + e);
    const bool negative = x < T(0);
    const T softplus = (negative ? T(0) : x) + both, opposite = (negative ? -x : T(0)) + both;
    const T wanted = w * t, other = T(1) - t;
    return {loss_parts::share(wanted, opposite, x) + loss_parts::share(other, softplus, x),
            other * (negative ? small : large) - wanted * (negative ? large : small)};
  }
};

ONEPASS_END
