// log and log1p: log(x) = k ln(2) + log(m) with m around 1.
#pragma once
#include "basic.h"

ONEPASS_BEGIN
namespace math {

// log(1 + f) + k ln(2) for kLeast <= 1 + f <= 2 kLeast. kLeast is 2/3 for this polynomial,
// sqrt(1/2) for the quotient s below.
ONEPASS_HD float log_sum(float f, float k) {
  using F = Format<float>;
  float q = poly(f, 0x1.555506p-2f, -0x1.fffefp-3f, 0x1.99d05ep-3f, -0x1.559de4p-3f, 0x1.1ed424p-3f,
                 -0x1.f30e36p-4f, 0x1.1e73ap-3f, -0x1.080c9ep-3f);
  float tail = f * f * muladd(f, q, -0.5f);
  return muladd(k, F::kLn2Hi, f + muladd(k, F::kLn2Lo, tail));
}

// With s = f / (2 + f): log(1 + f) = 2 atanh(s) = f - s (f - R(s^2)), as in fdlibm (Sun, 1993).
ONEPASS_HD double log_sum(double f, double k) {
  using F = Format<double>;
  double s = f / (2.0 + f), z = s * s;
  double r = z * poly(z, 0x1.5555555555593p-1, 0x1.999999997fa39p-2, 0x1.2492494224e8ap-2,
                      0x1.c71c51dcf77adp-3, 0x1.74664887e82d2p-3, 0x1.39a0b4d915e9dp-3,
                      0x1.2f103aea2cf88p-3);
  return k * F::kLn2Hi + (f - (s * (f - r) - k * F::kLn2Lo));
}

// x = 2^k m with kLeast <= m < 2 kLeast; x positive and normal. `biased` is k + kBias.
template <class T>
struct Split {
  typename Format<T>::Bits biased;
  T k, m;
};

template <class T>
ONEPASS_HD Split<T> split(T x) {
  using F = Format<T>;
  using Bits = typename F::Bits;
  constexpr Bits one = Bits(F::kBias) << F::kMantissa;
  constexpr Bits mask = (Bits(1) << F::kMantissa) - 1;
  constexpr Bits count = Bits(F::kBias + F::kMantissa) << F::kMantissa;  // 2^kMantissa: integers
  Bits u = to_bits(x) + (one - F::kLeast), biased = u >> F::kMantissa;
  T k = from_bits(biased | count) - (from_bits(count) + T(F::kBias));
  return {biased, k, from_bits((u & mask) + F::kLeast)};
}

// Error: 0.94, 0.90 ulp.
template <class T>
ONEPASS_HD T log(T x) {
  using F = Format<T>;
  constexpr T up = T(uint64_t(1) << F::kMantissa);
  bool small = x < F::kMinNormal;
  Split<T> p = split(small ? x * up : x);
  T y = log_sum(p.m - T(1), p.k - (small ? T(F::kMantissa) : T(0)));
  y = x > F::kMax ? x : y;
  y = x == T(0) ? -infinity<T>() : y;
  return x >= T(0) ? y : quiet_nan<T>();
}

// 1 + x = 2^k (1 + f), f = x 2^-k + (2^-k - 1): the sum 1 + x only chooses k. Error: 1.69, 1.50
// ulp.
template <class T>
ONEPASS_HD T log1p(T x) {
  using F = Format<T>;
  Split<T> p = split(T(1) + x);
  T s = from_bits((2 * F::kBias - p.biased) << F::kMantissa);
  bool large = p.biased > F::kBias + F::kMantissa + 2;  // there 1 + x = x, and s may not exist
  T y = log_sum(large ? p.m - T(1) : x * s + (s - T(1)), p.k);
  y = x > F::kMax ? x : y;
  y = x == T(-1) ? -infinity<T>() : y;
  return x >= T(-1) ? copysign(y, x) : quiet_nan<T>();
}

}  // namespace math
ONEPASS_END
