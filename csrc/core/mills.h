// Mills' ratio: the tail of the normal distribution, apart from its exponential.
#pragma once
#include "exp.h"

ONEPASS_BEGIN
namespace math {

// Mills' ratio of the normal distribution over sqrt(2 pi): M(t) = Q(t) exp(t^2/2), where Q(t) is
// the probability that a normal variable exceeds t >= 0. For callers that have the exponential
// already. Valid up to t = 15 (float) and 40 (double).
//
// Float: M = p / (2 + t n + b t p), p = 1 + t mills_top(t), to 2^-25.5. Errors of p cancel for
// large t, where M is 1 / (b t). The coefficients are those, near the best fit, with the least
// error of mills_times() over all floats.
constexpr float kMillsSlope = 0x1.40d956p+1f;  // b
ONEPASS_HD float mills_top(float t, float scale) {
  return chain(t, 1.0f, scale, 0x1.d83114p-1f, 0x1.9a674p-2f, 0x1.7cc55p-4f, 0x1.47a48p-7f);
}
ONEPASS_HD float mills_bottom(float t) {  // t n
  return t * chain(t, 1.0f, 1.0f, 0x1.de05c2p-1f, 0x1.e0c1bep-3f, 0x1.996fdep-6f);
}

// M(t) times `scale`, a constant power of two. Error: 2.9, 6.8 ulp.
ONEPASS_HD float mills(float t, float scale = 1.0f) {
  const float p = muladd(t, mills_top(t, scale), scale);
  return p / (muladd(t * p, kMillsSlope / scale, mills_bottom(t)) + 2.0f);
}

// t M(t) exp(f r), which is t Q(t) for e of -t^2/2, up to the power of two: 3.0 ulp of it. What
// rounding takes from t p is carried on, and the sums with t p and with 2 round once.
ONEPASS_HD float mills_times(float t, Reduced<float> e) {
  const float square = t * t, top = mills_top(t, 1.0f);
  const float tp = muladd(square, top, t), lost = muladd(square, top, t - tp);
  const float bend = muladd(tp, e.r * (e.r * expm1_tail(e.r, e.f)), lost);
  const float bottom = muladd(lost, kMillsSlope, mills_bottom(t));
  return (muladd(tp, e.f * e.r, bend) + tp) / (muladd(tp, kMillsSlope, bottom) + 2.0f);
}

// (t + 17/4) M(t) in a = 1 - 8.5 / (t + 17/4), interpolated at Chebyshev nodes: 2^-53.1.
ONEPASS_HD double mills_scaled(double a) {
  return poly(
      a, 0x1.84e44a0817f9cp-1, -0x1.40110298a88a9p-1, 0x1.ac43d626c7724p-2, -0x1.c39de6d9a1878p-3,
      0x1.5d4640a4e9b44p-4, -0x1.3d2ab234762dfp-6, -0x1.86c590aac949p-11, 0x1.19b950b58ddfp-9,
      -0x1.a81a655a01669p-12, -0x1.92e93f4d47fa7p-13, 0x1.472daa1813ce9p-14, 0x1.5a6eed6623346p-16,
      -0x1.a7719d5e3ae4bp-17, -0x1.ad10d4d5c4914p-19, 0x1.0ce9b0a453ea6p-19, 0x1.6bc8ebd69ffbap-21,
      -0x1.3e66b8ea89c52p-22, -0x1.58109b6e54075p-23, 0x1.0bc3424a51719p-25, 0x1.23ce1a28282a9p-25,
      0x1.574a8ab6e3abap-30, -0x1.344a13e7c53d6p-28, -0x1.2cef0045b83ap-30);
}

ONEPASS_HD double mills(double t, double scale = 1.0) {
  const double v = 1.0 / (t + 4.25);
  return scale * v * mills_scaled((t - 4.25) * v);
}
ONEPASS_HD double mills_times(double t, Reduced<double> e) { return t * exp_reduced(e) * mills(t); }

}  // namespace math
ONEPASS_END
