// cross_entropy: loss = -Σ_c q_c·log softmax(x)_c = Σq·log Σe − Σ_c q_c·(x_c − m), m = max x,
//   e_c = exp(x_c − m); gradient dx_c = Σq·e_c/Σe − q_c
// with q_c = (1 − ε)·w_y·[c = y] + ε/C·w_c for a label y, and q_c = w_c·((1 − ε)·t_c + ε/C) for
// class probabilities t; ε is label_smoothing, w the class weights. Subtracting the maximum keeps
// every exponential within [0, 1]. Reduction "mean" divides by Σ w_y over the labels that are not
// ignored, or by the number of probability rows.
// Szegedy et al., Rethinking the Inception Architecture, 2016 (label smoothing), in PyTorch's form.
#pragma once
#include "core/math.h"

ONEPASS_BEGIN
namespace cross_entropy_formula {

// e = exp(x − m) without subnormals, which vanish beside the maximum's 1.
template <class T>
ONEPASS_HD T term(T x, T m) {
  return math::exp_flushed(x - m);
}

// The parts of q: `hot` at the label or times t_c, `even` times w_c everywhere.
template <class T>
struct Smoothing {
  T hot, even;
  static ONEPASS_HD Smoothing of(double label_smoothing, int64_t classes) {
    return {T(1 - label_smoothing), T(label_smoothing / double(classes))};
  }
};

template <class T>
ONEPASS_HD T target(T t, T weight, Smoothing<T> s) {
  return weight * (s.hot * t + s.even);
}
// q·(x − m); 0 if q is 0, even for a logit of -Inf.
template <class T>
ONEPASS_HD T share(T q, T below_max) {
  return q == T(0) ? T(0) : q * below_max;
}
// total = Σq, shares = Σ q·(x − m).
template <class T>
ONEPASS_HD T loss(T total, T sum_exp, T shares) {
  return total * math::log(sum_exp) - shares;
}
// If m is this large, x − m may exceed the range of T although its share of the loss does not.
// Shares are then added as halves in double.
template <class T>
ONEPASS_HD bool leaves_range(T m) {
  return m > (sizeof(T) == 4 ? T(0x1p100) : T(0x1p960));
}
template <class T>
ONEPASS_HD double half_share(T q, T x, T m) {
  return share(double(q), 0.5 * double(x) - 0.5 * double(m));
}
template <class T>
ONEPASS_HD double loss_of_halves(T total, T sum_exp, double half_shares) {
  return 2 * (0.5 * double(total) * double(math::log(sum_exp)) - half_shares);
}
// factor = total / Σe; factor and q both include the reduction's factor.
template <class T>
ONEPASS_HD T gradient(T e, T factor, T q) {
  return e * factor - q;
}

}  // namespace cross_entropy_formula
ONEPASS_END
