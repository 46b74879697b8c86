// exp, expm1, tanh and sigmoid: exp(x) = 2^k exp(r) with |r| <= ln(2) / 2.
#pragma once
#include "basic.h"

ONEPASS_BEGIN
namespace math {

// (expm1(f r) - f r) / r^2 on |f r| <= ln(2) / 2; expm1's relative error 2^-26.1 and 2^-61.5.
ONEPASS_HD float expm1_tail(float r, float f) {
  return chain(r, f, f * f, 0.5f, 0x1.5554b6p-3f, 0x1.5555aep-5f, 0x1.122438p-7f, 0x1.6c6662p-10f);
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

ONEPASS_HD Reduced<float> opposite(Reduced<float> e) { return {e.shifted, e.r, -e.f}; }
ONEPASS_HD Reduced<double> opposite(Reduced<double> e) { return {e.shifted, -e.r, -e.tiny}; }

// c + expm1(f r + tiny). With r * r first muladd() would be wrong on x86-64-v2 for six floats.
ONEPASS_HD float add_expm1(float c, Reduced<float> e) {
  return muladd(e.r, e.r * expm1_tail(e.r, e.f), muladd(e.f, e.r, c));
}
ONEPASS_HD double add_expm1(double c, Reduced<double> e) {
  return (c + e.r) + (e.r * e.r * expm1_tail(e.r) + e.tiny);
}

// exp(f r + tiny).
ONEPASS_HD float exp_reduced(Reduced<float> e) {
  return muladd(e.r, muladd(e.r, expm1_tail(e.r, e.f), e.f), 1.0f);
}
ONEPASS_HD double exp_reduced(Reduced<double> e) {
  return 1.0 + (e.r + (e.r * e.r * expm1_tail(e.r) + e.tiny));
}

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

// exp(f x) 2^lift for a constant f = +-2^n, if that is a normal number: `move` adds the bias to k,
// and the last shift drops kShiftBits. The default lift is 1 / kDown, for kExpMin <= f x <= 0:
// callers multiply by kDown at the end, so that subnormal results are rounded once.
template <Ln2 kLn2 = Ln2::whole, class T>
ONEPASS_HD T exp_lifted(T x, T f, int lift = Format<T>::kLift) {
  using F = Format<T>;
  Reduced<T> e = reduce<kLn2>(x, F::kBias + lift, f);
  return exp_reduced(e) * from_bits(e.shifted << F::kMantissa);
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

// expm1(x) = 2^k (1 - 2^-k + expm1(r)): exact where it cancels. Error: 1.33, 1.40 ulp.
template <class T>
ONEPASS_HD T expm1(T x) {
  using F = Format<T>;
  using Bits = typename F::Bits;
  T c = x > F::kExpMax ? F::kExpMax : x;
  c = c < F::kExpm1Min ? F::kExpm1Min : c;
  Reduced<T> e = reduce(c);
  Bits minus_k = F::kShiftBits + F::kBias - e.shifted;  // biased; the clamp keeps it an exponent
  minus_k = c > T(60) ? Bits(F::kBias - 60) : minus_k;
  T y = add_expm1(T(1) - from_bits(minus_k << F::kMantissa), e);
  return copysign(scale_by_power(y, e.shifted), x);
}

// tanh(x) = t / (t + 2), t = expm1(2 |x|), both scaled by s = 2^-k: of -2 |x| reduce() gives -k.
// Error: 2.53, 2.60 ulp.
template <class T>
ONEPASS_HD T tanh(T x) {
  using F = Format<T>;
  T a = at_most(abs(x), F::kTanhMax);
  Reduced<T> e = opposite(reduce<Ln2::rounded>(a, F::kBias, T(-2)));
  T s = from_bits(e.shifted << F::kMantissa), t = add_expm1(T(1) - s, e);
  return with_sign(t / muladd(T(2), s, t), x);
}

// 1 / (1 + e^-x), without overflow: small results are e^x. Error: 2.41, 2.40 ulp.
template <class T>
ONEPASS_HD T sigmoid(T x) {
  using F = Format<T>;
  T e = exp_lifted(at_most(abs(x), -F::kExpMin), T(-1));
  return (x < T(0) ? e * F::kDown : T(1)) / muladd(e, F::kDown, T(1));
}

}  // namespace math
ONEPASS_END
