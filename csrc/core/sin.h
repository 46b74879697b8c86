// sin and cos: |x| = q π/2 + r with |r| <= π/4; polynomials give sin(r) and cos(r), and q says
// which of them is meant, and its sign.
//
// float reduces exactly, whatever the size of x. x is an integer of 24 bits times a power of two,
// and of its product with 2/π only the bits below 4 matter: those that 96 bits of 2/π give, from a
// bit on that depends on the exponent (Payne & Hanek, Radian reduction for trigonometric functions,
// 1983). Selects find them, since a table would lie in a GPU's local memory.
//
// double subtracts q times π/2 in five parts (Cody & Waite, Software manual for the elementary
// functions, 1980). q is a multiple of 2^23 and a rest of 22 bits, so that up to kSinMax their
// products with the first four parts, of at most 30 bits, are exact. Beyond that the result is NaN.
// Polynomials: fdlibm (Sun, 1993), and its float version in FreeBSD (Ian Taylor, Bruce Evans).
#pragma once
#include "basic.h"

ONEPASS_BEGIN
namespace math {

constexpr double kSinMax = 0x1p46;

// r + tail is the rest; of q only the last two bits count.
struct Angle {
  double r, tail;
  uint64_t q;
};

ONEPASS_HD Angle reduce_angle(float x) {
  const uint32_t bits = to_bits(x) & 0x7fffffffu;
  const bool small = bits < 0x3f000000u;  // below 1/2: nothing to reduce
  // The bit of 2/π, with 32 zero bits before it, that contributes 2: 6 to 134.
  const uint32_t first = (bits >> 23) - 120, word = first >> 5, bit = first & 31;
  uint32_t a = 0, b = 0xa2f9836eu, c = 0x4e441529u, d = 0xfc2757d1u, e = 0xf534ddc0u;
  constexpr uint32_t f = 0xdb629599u, g = 0x3c439041u, h = 0xfe5163abu;
  const bool by4 = word & 4, by2 = word & 2, by1 = word & 1;
  a = by4 ? e : a, b = by4 ? f : b, c = by4 ? g : c, d = by4 ? h : d;
  a = by2 ? c : a, b = by2 ? d : b, c = by2 ? e : c, d = by2 ? f : d, e = by2 ? g : e;
  a = by1 ? b : a, b = by1 ? c : b, c = by1 ? d : c, d = by1 ? e : d;
  // Shifts as products with 2^bit, since x86-64-v2 cannot shift lanes by different counts.
  const double power = from_bits(uint64_t(1023 + bit) << 52) + 0x1p52;
  const uint64_t scale = to_bits(power) & 0xffffffffu;
  const uint64_t high = (a * scale & 0xffffffffu) + (b * scale >> 32);
  const uint64_t middle = (b * scale & 0xffffffffu) + (c * scale >> 32);
  const uint64_t low = (c * scale & 0xffffffffu) + (d * scale >> 32);
  const uint64_t m = (bits & 0x7fffffu) | 0x800000u;
  // x 2/π modulo 4, in units of 2^-62.
  const uint64_t turns = (m * high << 32) + m * middle + (m * low >> 32);
  const uint64_t rest = turns << 2;  // a signed fraction in units of 2^-64
  const double upper = double(int32_t(rest >> 32)) * 0x1p32;
  const double lower = from_bits(0x4330000000000000u | (rest & 0xffffffffu)) - 0x1p52;
  const double r = (upper + lower) * 0x1.921fb54442d18p-64;  // π/2 2^-64
  return {small ? double(from_bits(bits)) : r, 0.0,
          small ? 0 : (turns + (uint64_t(1) << 61)) >> 62};
}

// Of differences below 1 `lost` has what rounding takes; the others are exact.
ONEPASS_HD Angle reduce_angle(double x) {
  using F = Format<double>;
  constexpr double first = 0x1.921fb54p+0, second = 0x1.10b46118p-30, third = 0x1.313198ap-61;
  constexpr double fourth = 0x1.701b838p-92, fifth = 0x1.a252049c1114dp-120;
  const double t = at_most(abs(x), kSinMax);
  const double shifted = t * 0x1.45f306dc9c883p-1 + F::kShift, q = shifted - F::kShift;
  const double m = (q + F::kShift * 0x1p23) - F::kShift * 0x1p23, n = q - m;
  const double a = ((t - m * first) - n * first) - m * second;
  const double b = a - n * second, c = b - m * third, d = c - n * third, e = d - m * fourth;
  const double lost = ((a - b) - n * second) + ((b - c) - m * third) + ((c - d) - n * third) +
                      ((d - e) - m * fourth) - (n * fourth + q * fifth);
  const double r = e + lost;
  return {r, (e - r) + lost, to_bits(shifted)};
}

// The sine of an Angle whose tail is 0, for a float result.
ONEPASS_HD double sin_short(double r) {
  const double z = r * r, s = z * r;
  const double high = -0x1.a00f9e2cae774p-13 + z * 0x1.6cd878c3b46a7p-19;
  return (r + s * (-0x1.5555554cbac77p-3 + z * 0x1.11110896efbb2p-7)) + s * (z * z) * high;
}
ONEPASS_HD double cos_short(double r) {
  const double z = r * r, w = z * z;
  const double high = -0x1.6c087e80f1e27p-10 + z * 0x1.99342e0ee5069p-16;
  return ((1.0 + z * -0x1.ffffffd0c5e81p-2) + w * 0x1.55553e1053a42p-5) + (w * z) * high;
}

ONEPASS_HD double sin_long(double r, double tail) {
  const double z = r * r, v = z * r;
  const double p = (8.33333333332248946124e-03 +
                    z * (-1.98412698298579493134e-04 + z * 2.75573137070700676789e-06)) +
                   z * (z * z) * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10);
  return r - ((z * (0.5 * tail - v * p) - tail) - v * -1.66666666666666324348e-01);
}
ONEPASS_HD double cos_long(double r, double tail) {
  const double z = r * r, w = z * z, half = 0.5 * z, one = 1.0 - half;
  const double p = z * (4.16666666666666019037e-02 +
                        z * (-1.38888888888741095749e-03 + z * 2.48015872894767294178e-05)) +
                   w * w *
                       (-2.75573143513906633035e-07 +
                        z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11));
  return one + (((1.0 - one) - half) + (z * p - r * tail));
}

// sin(|x| + turns π/2), and NaN where x is not finite or out of range.
ONEPASS_HD float sin_shifted(float x, uint64_t turns) {
  const Angle angle = reduce_angle(x);
  const uint64_t q = angle.q + turns;
  const float y = float(q & 1 ? cos_short(angle.r) : sin_short(angle.r));
  return isfinite(x) ? (q & 2 ? -y : y) : x - x;
}
ONEPASS_HD double sin_shifted(double x, uint64_t turns) {
  const Angle angle = reduce_angle(x);
  const uint64_t q = angle.q + turns;
  const double y = q & 1 ? cos_long(angle.r, angle.tail) : sin_long(angle.r, angle.tail);
  return abs(x) <= kSinMax ? (q & 2 ? -y : y) : quiet_nan<double>();
}

// Error: 0.51, 0.79 ulp.
template <class T>
ONEPASS_HD T sin(T x) {
  const T y = sin_shifted(x, 0);
  return from_bits(to_bits(y) ^ (to_bits(x) & Format<T>::kSign));
}
template <class T>
ONEPASS_HD T cos(T x) {
  return sin_shifted(x, 1);
}

}  // namespace math
ONEPASS_END
