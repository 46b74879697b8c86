// sin and cos.
//
// float: |x| = k π + r with |r| <= π/2; one polynomial gives sin(r), and k the sign. cos takes
// (k + 1/2) π instead of k π. Up to kSinNear the reduction is a difference in double, with π in
// two parts, of which the first times k is exact (Cody & Waite, Software manual for the elementary
// functions, 1980). Beyond, x is an integer of 24 bits times a power of two, and of its product
// with 2/π only the bits below 4 matter: those that 96 bits of 2/π give, from a bit on that depends
// on the exponent (Payne & Hanek, Radian reduction for trigonometric functions, 1983). Selects find
// them, since a table would lie in a GPU's local memory.
//
// double: |x| = q π/2 + r with |r| <= π/4. It subtracts q times π/2 in five parts; q is a multiple
// of 2^23 and a rest of 22 bits, so that up to kSinMax their products with the first four parts, of
// at most 30 bits, are exact. Beyond that the result is NaN. Polynomials: fdlibm (Sun, 1993).
#pragma once
#include "basic.h"

ONEPASS_BEGIN
namespace math {

constexpr float kSinNear = 0x1p24f;
constexpr double kSinMax = 0x1p46;

// ±x modulo π for float; the top bit of `odd` says that an odd multiple was taken away.
struct HalfTurn {
  double r;
  uint64_t odd;
};

ONEPASS_HD bool sin_is_near(float x) { return (to_bits(x) & 0x7fffffffu) < to_bits(kSinNear); }

// x - k π for a whole k, or for cos the same of (k + 1/2) π - |x|, for |x| < kSinNear.
template <bool kCos>
ONEPASS_HD HalfTurn near_half_turn(float x) {
  constexpr double first = 0x1.921fb54p+1, second = 0x1.10b4611a62633p-29;
  constexpr double shift = Format<double>::kShift, inverse = 0x1.45f306dc9c883p-2;
  if constexpr (kCos) {
    const double t = abs(x), shifted = (t * inverse - 0.5) + shift, h = (shifted - shift) + 0.5;
    return {(h * first - t) + h * second, to_bits(shifted) << 63};
  } else {
    const double t = x, shifted = t * inverse + shift, k = shifted - shift;
    return {(t - k * first) - k * second, to_bits(shifted) << 63};
  }
}

// The same of every |x| >= kSinNear.
template <bool kCos>
ONEPASS_HD HalfTurn far_half_turn(float x) {
  const uint32_t bits = to_bits(x) & 0x7fffffffu;
  // The bit of 2/π, with 32 zero bits before it, that contributes 2: 31 to 134.
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
  // |x| / π modulo 2, in units of 2^-63.
  const uint64_t turns = (m * high << 32) + m * middle + (m * low >> 32);
  // What is left of it, a signed fraction in units of 2^-64: of cos, 1/2 or 3/2 minus it.
  const uint64_t half = uint64_t(1) << 62;
  const uint64_t rest = (kCos ? half - turns : turns) << 1;
  const double upper = double(int32_t(rest >> 32)) * 0x1p32;
  const double lower = from_bits(0x4330000000000000u | (rest & 0xffffffffu)) - 0x1p52;
  const double r = (upper + lower) * 0x1.921fb54442d18p-63;  // π 2^-64
  if constexpr (kCos) return {r, turns};
  return {x < 0 ? -r : r, turns + half};
}

// The sine of a half turn; 2^-35 of it is lost.
ONEPASS_HD float half_turn_sin(HalfTurn turn) {
  const double r = turn.r, z = r * r;
  const double p =
      0x1.11110c4a01195p-7 +
      z * (-0x1.a017d9a04997dp-13 + z * (0x1.71708024c16dap-19 + z * -0x1.9a6887bf8051cp-26));
  const double y = r * (1.0 + z * (-0x1.5555554769675p-3 + z * p));
  return float(from_bits(to_bits(y) ^ (turn.odd & Format<double>::kSign)));
}

template <bool kCos>
ONEPASS_HD float near_sin(float x) {
  return half_turn_sin(near_half_turn<kCos>(x));
}
template <bool kCos>
ONEPASS_HD float any_sin(float x) {
  const HalfTurn turn = sin_is_near(x) ? near_half_turn<kCos>(x) : far_half_turn<kCos>(x);
  return isfinite(x) ? half_turn_sin(turn) : x - x;
}

// r + tail is the rest; of q only the last two bits count.
struct Angle {
  double r, tail;
  uint64_t q;
};

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
ONEPASS_HD double sin_shifted(double x, uint64_t turns) {
  const Angle angle = reduce_angle(x);
  const uint64_t q = angle.q + turns;
  const double y = q & 1 ? cos_long(angle.r, angle.tail) : sin_long(angle.r, angle.tail);
  return abs(x) <= kSinMax ? (q & 2 ? -y : y) : quiet_nan<double>();
}

// Error: 0.501, 0.79 ulp.
ONEPASS_HD float sin(float x) { return any_sin<false>(x); }
ONEPASS_HD float cos(float x) { return any_sin<true>(x); }
ONEPASS_HD double sin(double x) {
  const double y = sin_shifted(x, 0);
  return from_bits(to_bits(y) ^ (to_bits(x) & Format<double>::kSign));
}
ONEPASS_HD double cos(double x) { return sin_shifted(x, 1); }

}  // namespace math
ONEPASS_END
