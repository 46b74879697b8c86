// softmax: y = e/Σe, e = exp(x − m), m = max x; dx = y·(dy − Σ dy·y).
// log_softmax: y = (x − m) − log Σe; dx = dy − exp(y)·Σ dy.
// Bridle, Probabilistic Interpretation of Feedforward Classification Network Outputs, 1990.
//
// `of_sum` turns a row's Σe into the factor or offset of its elements; backward adds up `share`. A
// row of only -Inf is NaN, because m − m is.
#pragma once
#include "core/math.h"

ONEPASS_BEGIN

template <class T>
struct Softmax {
  static constexpr bool kOfTerm = true;  // forward takes e, not x
  static ONEPASS_HD T of_sum(T sum) { return T(1) / sum; }
  static ONEPASS_HD T forward(T e, T, T scale) { return e * scale; }
  static ONEPASS_HD T share(T dy, T y) { return dy * y; }
  static ONEPASS_HD T backward(T dy, T y, T sum) { return y * (dy - sum); }
};

template <class T>
struct LogSoftmax {
  static constexpr bool kOfTerm = false;
  static ONEPASS_HD T of_sum(T sum) { return math::log(sum); }
  static ONEPASS_HD T forward(T x, T m, T log_sum) { return (x - m) - log_sum; }
  static ONEPASS_HD T share(T dy, T) { return dy; }
  static ONEPASS_HD T backward(T dy, T y, T sum) { return dy - math::exp(y) * sum; }
};

ONEPASS_END
