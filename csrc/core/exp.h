// exp, expm1, tanh and the logistic function: exp(x) = 2^k exp(r) with |r| <= ln(2) / 2.
#pragma once
#include "basic.h"

ONEPASS_BEGIN
namespace math {

// (expm1(f r) - f r) / r^2 on |f r| <= ln(2) / 2; expm1's relative error 2^-26.1 and 2^-61.5.
// Float: times a constant power of two.
ONEPASS_HD float expm1_tail(float r, float f, float scale = 1.0f) {
  return chain(r, f, scale * f * f, 0.5f, 0x1.5554b6p-3f, 0x1.5555aep-5f, 0x1.122438p-7f,
               0x1.6c6662p-10f);
}

ONEPASS_HD double expm1_tail(double r) {
  return poly(r, 0x1p-1, 0x1.5555555555559p-3, 0x1.555555555554dp-5, 0x1.111111110f63ep-7,
              0x1.6c16c16c1ab08p-10, 0x1.a01a01b01359dp-13, 0x1.a01a018e1278bp-16,
              0x1.71ddf7d9666b1p-19, 0x1.27e51315edad5p-22, 0x1.af5f9f9acbd9bp-26,
              0x1.1f1aa8588a3ap-29);
}

// f x = k ln(2) + f r + tiny with |f r| <= ln(2) / 2 (Cody and Waite). The low bits of `shifted`
// hold k + move. Float folds a constant f = +-2^n into its constants; only double, which has no
// fused product, needs tiny.
template <class T>
struct Reduced;

template <>
struct Reduced<float> {
  uint32_t shifted;
  float r, f;
};

template <>
struct Reduced<double> {
  uint64_t shifted;
  double r, tiny;
};

// In float the last bits of ln(2) are k 2^-29 of f x, less than its rounding error. `rounded`
// leaves them out, where f x is already rounded or the result hardly depends on it.
enum class Ln2 { whole, rounded };

template <Ln2 kLn2 = Ln2::whole>
ONEPASS_HD Reduced<float> reduce(float x, int move = 0, float f = 1.0f) {
  using F = Format<float>;
  const float shift = F::kShift + float(move), shifted = muladd(x, f * F::kLog2e, shift);
  const float k = shifted - shift, hi = muladd(-k, F::kLn2Hi / f, x);
  return {to_bits(shifted), kLn2 == Ln2::whole ? muladd(-k, F::kLn2Lo / f, hi) : hi, f};
}

template <Ln2 = Ln2::whole>
ONEPASS_HD Reduced<double> reduce(double x, int move = 0, double f = 1.0) {
  using F = Format<double>;
  x *= f;
  const double shift = F::kShift + double(move), shifted = x * F::kLog2e + shift;
  const double k = shifted - shift, hi = x - k * F::kLn2Hi, r = hi - k * F::kLn2Lo;
  return {to_bits(shifted), r, (hi - r) - k * F::kLn2Lo};
}

// Of f x^2. In float the square is not rounded: it meets k ln(2) / f in a fused product.
ONEPASS_HD Reduced<float> reduce_square(float x, int move, float f) {
  using F = Format<float>;
  const float shift = F::kShift + float(move), shifted = muladd(x * x, f * F::kLog2e, shift);
  const float k = shifted - shift, hi = muladd(x, x, k * (-F::kLn2Short / f));
  return {to_bits(shifted), muladd(k, -F::kLn2Rest / f, hi), f};
}
ONEPASS_HD Reduced<double> reduce_square(double x, int move, double f) {
  return reduce(x * x, move, f);
}

ONEPASS_HD Reduced<float> opposite(Reduced<float> e) { return {e.shifted, e.r, -e.f}; }
ONEPASS_HD Reduced<double> opposite(Reduced<double> e) { return {e.shifted, -e.r, -e.tiny}; }

// 2^k, where `move` has added the exponent's bias: the shift drops kShiftBits.
template <class T>
ONEPASS_HD T power_of_two(Reduced<T> e) {
  return from_bits(e.shifted << Format<T>::kMantissa);
}

// c - 1 + exp(f r + tiny).
ONEPASS_HD float exp_reduced(Reduced<float> e, float c = 1.0f) {
  return muladd(e.r, muladd(e.r, expm1_tail(e.r, e.f), e.f), c);
}
ONEPASS_HD double exp_reduced(Reduced<double> e, double c = 1.0) {
  return c + (e.r + (e.r * e.r * expm1_tail(e.r) + e.tiny));
}

// Of f x + d, where d is less than a rounding of f x.
ONEPASS_HD Reduced<float> plus(Reduced<float> e, float d) {
  return {e.shifted, e.r + d / e.f, e.f};
}
ONEPASS_HD Reduced<double> plus(Reduced<double> e, double d) {
  const double r = e.r + d;
  return {e.shifted, r, ((e.r - r) + d) + e.tiny};
}

// expm1(f r + tiny).
ONEPASS_HD float expm1_reduced(Reduced<float> e) {
  return muladd(e.r, e.r * expm1_tail(e.r, e.f), e.f * e.r);
}
ONEPASS_HD double expm1_reduced(Reduced<double> e) {
  return e.r + (e.r * e.r * expm1_tail(e.r) + e.tiny);
}

// Half of it, for f = +-2, where float saves a product.
ONEPASS_HD float half_expm1(Reduced<float> e) {
  return muladd(e.r, e.r * expm1_tail(e.r, e.f, 0.5f), e.f * 0.5f * e.r);
}
ONEPASS_HD double half_expm1(Reduced<double> e) { return 0.5 * expm1_reduced(e); }

// y 2^k in two exact steps and one rounding, since 2^k itself may be out of range on either side.
template <class T>
ONEPASS_HD T scale_by_power(T y, typename Format<T>::Bits shifted) {
  using F = Format<T>;
  typename F::Bits twice = shifted - (F::kShiftBits - 2 * F::kBias), half = twice >> 1;
  return y * from_bits(half << F::kMantissa) * from_bits((twice - half) << F::kMantissa);
}

// Error: 0.95, 0.90 ulp.
template <class T>
ONEPASS_HD T exp(T x) {
  using F = Format<T>;
  x = x > F::kExpMax ? F::kExpMax : x;
  x = x < F::kExpMin ? F::kExpMin : x;
  Reduced<T> e = reduce(x);
  return scale_by_power(exp_reduced(e), e.shifted);
}

// exp(f x) 2^lift for a constant f = +-2^n, if that is a normal number. The default lift is 1 /
// kDown, for kExpMin <= f x <= 0: callers multiply by kDown at the end, so that subnormal results
// are rounded once.
template <class T>
ONEPASS_HD T exp_lifted(T x, T f, int lift = Format<T>::kLift) {
  using F = Format<T>;
  Reduced<T> e = reduce(x, F::kBias + lift, f);
  return exp_reduced(e) * power_of_two(e);
}

// exp(x) for x <= 0 only; cheaper.
template <class T>
ONEPASS_HD T exp_down(T x) {
  using F = Format<T>;
  return exp_lifted(at_least(x, F::kExpMin), T(1)) * F::kDown;
}

// exp_down with subnormal results flushed to zero: k stops at -kBias, where the power's bits are 0.
template <class T>
ONEPASS_HD T exp_flushed(T x) {
  return exp_lifted(at_least(x, Format<T>::kExpFlushed), T(1), 0);
}

// factor expm1(x) for x <= 0; 0 for -0. With factor exp(x) = a (1 + t) that is a - factor + a t,
// where a - factor is 0 for k = 0. No muladd(): factor is a second operand. Error with a factor
// that is a float: 1.9, 2.0 ulp.
template <class T>
ONEPASS_HD T scaled_expm1(T factor, T x) {
  using F = Format<T>;
  const Reduced<T> e = reduce(at_least(x, F::kExpm1Min), F::kBias);
  const T a = factor * power_of_two(e);
  return a * expm1_reduced(e) + (a - factor);
}

// tanh(|x|) = (1 - e) / (1 + e), e = exp(-2 |x|) = (1 + t) / up, so that each sum with 1 rounds
// once. Below 1/2 the sum under it is less than 2, where it rounds by half as much as above: hence
// not in exp(2 |x|). Here each term is half of that. Error: 1.97, 2.1 ulp.
template <class T>
ONEPASS_HD T tanh(T x) {
  using F = Format<T>;
  const T a = at_most(abs(x), F::kTanhMax);
  const Reduced<T> e = opposite(reduce<Ln2::rounded>(a, F::kBias - 1, T(2)));
  const T up = power_of_two(e), t = half_expm1(e);
  return with_sign(((up - T(0.5)) - t) / ((up + T(0.5)) + t), x);
}

// exp(f t), t >= 0 and f a power of two, as (1 + expm1(rest)) / down, since 1 / (1 + exp(f t)) is
// then down / (1 + (down + expm1(rest))). `lifted` is down / kDown, for quotients that may become
// subnormal.
template <class T>
struct Rising {
  Reduced<T> rest;
  T lifted, down;
};

// From what reduce() gives of -f t, with the exponent of 1 / kDown.
template <class T>
ONEPASS_HD Rising<T> rising_of(Reduced<T> falling) {
  const T lifted = power_of_two(falling);
  return {opposite(falling), lifted, lifted * Format<T>::kDown};
}

template <class T>
ONEPASS_HD Rising<T> rising(T t, T f = T(1)) {
  using F = Format<T>;
  return rising_of(reduce(t, F::kBias + F::kLift, -f));
}

// factor / (1 + exp(f t)) / kDown.
template <class T>
ONEPASS_HD T lifted_logistic(Rising<T> e, T factor = T(1)) {
  return factor * e.lifted / (T(1) + exp_reduced(e.rest, e.down));
}

// 1 / (1 + exp(f t)), which is at most 1/2. Error: 2.0, 2.1 ulp.
template <class T>
ONEPASS_HD T logistic(Rising<T> e) {
  return lifted_logistic(e) * Format<T>::kDown;
}

// exp(f t) / (1 + exp(f t))^2 times a power of two. Error: 2.0, 2.1 ulp.
template <class T>
ONEPASS_HD T logistic_slope(Rising<T> e, T factor = T(1)) {
  const T q = lifted_logistic(e) * (factor * Format<T>::kDown);
  return muladd(q * (T(-1) / factor), q, q);
}

// 1 / (1 + e^-x), without overflow. Error: 2.0, 2.1 ulp.
template <class T>
ONEPASS_HD T sigmoid(T x) {
  const T q = logistic(rising(at_most(abs(x), -Format<T>::kExpMin)));
  return x < T(0) ? q : T(1) - q;
}

}  // namespace math
ONEPASS_END
