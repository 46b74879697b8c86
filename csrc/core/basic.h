// Floating-point formats, bits, bounds, muladd and polynomials, the parts of exp.h, log.h and
// erf.h.
#pragma once
#include "hd.h"

ONEPASS_BEGIN
namespace math {

ONEPASS_HD constexpr uint32_t to_bits(float x) { return __builtin_bit_cast(uint32_t, x); }
ONEPASS_HD constexpr uint64_t to_bits(double x) { return __builtin_bit_cast(uint64_t, x); }
ONEPASS_HD constexpr float from_bits(uint32_t b) { return __builtin_bit_cast(float, b); }
ONEPASS_HD constexpr double from_bits(uint64_t b) { return __builtin_bit_cast(double, b); }

// Constants of a floating-point format. x - k kLn2Hi is exact: in double because kLn2Hi ends in
// enough zero bits, in float because muladd() does not round the product. k kLn2Short is exact up
// to k = 255. Adding kShift rounds to
// an integer and leaves it in the low bits. Exponentials are computed 2^kLift = 1 / kDown times too
// large, clear of the subnormals, and scaled down at the end.
template <class T>
struct Format;

template <>
struct Format<float> {
  using Bits = uint32_t;
  using Int = int32_t;
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr Bits kSign = 0x80000000u, kInf = 0x7f800000u, kNan = 0x7fc00000u;
  static constexpr Bits kLeast = 0x3f2aaaabu, kShiftBits = 0x4b400000u;
  static constexpr float kMinNormal = 0x1p-126f, kMax = 0x1.fffffep127f, kShift = 0x1.8p23f;
  static constexpr float kLog2e = 0x1.715476p0f, kLn2Hi = 0x1.62e43p-1f, kLn2Lo = -0x1.05c61p-29f;
  static constexpr float kLn2Short = 0x1.62e4p-1f, kLn2Rest = 0x1.7f7d1cp-20f;
  static constexpr float kExpMin = -104.0f, kExpMax = 89.0f, kExpm1Min = -18.0f;
  static constexpr float kExpFlushed = -88.0f;
  static constexpr float kTanhMax = 10.0f, kErfMax = 4.0f;
  static constexpr int kLift = 64;
  static constexpr float kDown = 0x1p-64f;
};

template <>
struct Format<double> {
  using Bits = uint64_t;
  using Int = int64_t;
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr Bits kSign = 0x8000000000000000u, kInf = 0x7ff0000000000000u;
  static constexpr Bits kNan = 0x7ff8000000000000u;
  static constexpr Bits kLeast = 0x3fe6a09e667f3bcdu, kShiftBits = 0x4338000000000000u;
  static constexpr double kMinNormal = 0x1p-1022, kMax = 0x1.fffffffffffffp1023;
  static constexpr double kShift = 0x1.8p52, kLog2e = 0x1.71547652b82fep0;
  static constexpr double kLn2Hi = 0x1.62e42fefa38p-1, kLn2Lo = 0x1.ef35793c7673p-45;
  static constexpr double kExpMin = -746.0, kExpMax = 710.0, kExpm1Min = -38.0;
  static constexpr double kExpFlushed = -709.0;
  static constexpr double kTanhMax = 20.0, kErfMax = 6.0;
  static constexpr int kLift = 512;
  static constexpr double kDown = 0x1p-512;
};

template <class T>
ONEPASS_HD T infinity() {
  return from_bits(Format<T>::kInf);
}

template <class T>
ONEPASS_HD T quiet_nan() {
  return from_bits(Format<T>::kNan);
}

// The compiler's builtin: GCC turns a hand-written bitwise "and" before a clamp into two, one
// masked.
ONEPASS_HD float abs(float x) { return __builtin_fabsf(x); }
ONEPASS_HD double abs(double x) { return __builtin_fabs(x); }

template <class T>
ONEPASS_HD T copysign(T magnitude, T sign) {
  constexpr auto s = Format<T>::kSign;
  return from_bits((to_bits(magnitude) & ~s) | (to_bits(sign) & s));
}

// copysign() of a magnitude whose own sign is clear.
template <class T>
ONEPASS_HD T with_sign(T magnitude, T sign) {
  return from_bits(to_bits(magnitude) | (to_bits(sign) & Format<T>::kSign));
}

template <class T>
ONEPASS_HD bool isnan(T x) {
  return x != x;
}

template <class T>
ONEPASS_HD bool isfinite(T x) {
  return abs(x) <= Format<T>::kMax;
}

// A zero the optimiser cannot see through: it is not const, and `used` makes GCC assume that it may
// be written elsewhere. GCC 12 compiles a clamp to one min or max instruction only if the bound is
// a variable. For a constant bound it emits a comparison and a blend (three slots on AVX2), and one
// more blend for each operation that it has already evaluated at the bound.
__attribute__((used)) static uint32_t hidden_zero = 0;

template <class T>
ONEPASS_HD T hidden(T constant) {
#ifdef __CUDA_ARCH__
  return constant;
#else
  return from_bits(to_bits(constant) | hidden_zero);
#endif
}

// x within a constant bound; a NaN stays.
template <class T>
ONEPASS_HD T at_most(T x, T bound) {
  const T b = hidden(bound);
  return x > b ? b : x;
}

template <class T>
ONEPASS_HD T at_least(T x, T bound) {
  const T b = hidden(bound);
  return x < b ? b : x;
}

// A NaN in either argument is returned; of two zeros, b.
template <class T>
ONEPASS_HD T max(T a, T b) {
  return a > b || a != a ? a : b;
}

template <class T>
ONEPASS_HD T min(T a, T b) {
  return a < b || a != a ? a : b;
}

// x, or -0 where the sign bit is set (a NaN's too). Compares bits: AVX2 blends on a sign bit
// without a comparison.
template <class T>
ONEPASS_HD T ramp(T x) {
  constexpr auto s = Format<T>::kSign;
  return from_bits(to_bits(x) < s ? to_bits(x) : s);
}

// a where the sign bit of x is set, else b. By bits: of a few selects by one comparison GCC makes
// two copies of all that lies between them.
template <class T>
ONEPASS_HD T where_negative(T x, T a, T b) {
  using Bits = typename Format<T>::Bits;
  const Bits all = Bits(0) - (to_bits(x) >> (8 * sizeof(T) - 1));
  return from_bits((to_bits(a) & all) | (to_bits(b) & ~all));
}

// Correctly rounded.
ONEPASS_HD float sqrt(float x) {
#ifdef __CUDA_ARCH__
  return ::sqrtf(x);
#else
  return __builtin_sqrtf(x);
#endif
}

ONEPASS_HD double sqrt(double x) {
#ifdef __CUDA_ARCH__
  return ::sqrt(x);
#else
  return __builtin_sqrt(x);
#endif
}

// x^n by repeated squaring, each product rounded: relative error below n 2^-53, the same as
// rounding x once before an exact power. Not libm's pow, whose bits differ between machines and on
// a GPU.
ONEPASS_HD double power(double x, uint64_t n) {
  double y = 1;
  for (; n != 0; n >>= 1) {
    if (n & 1) y *= x;
    x *= x;
  }
  return y;
}

// a b + c: float rounds once, double twice. x86-64-v2 has no fused instruction; there the float sum
// goes through double, and rounding twice changes about one sum in 2^29. No function of core/ and
// kernels/ is affected: all operands depend on one float, and `core_test every` compares all levels
// on all 2^32 of them. Do not use muladd where the operands depend on two or more, as in an update.
ONEPASS_HD float muladd(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return ::fmaf(a, b, c);
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return float(double(a) * double(b) + double(c));
#endif
}

ONEPASS_HD double muladd(double a, double b, double c) { return a * b + c; }

// The terms of even index of c0 + c1 z + c2 z + c3 z^2 + ..., so every second coefficient.
template <class T>
ONEPASS_HD T every_second(T, T c) {
  return c;
}

template <class T>
ONEPASS_HD T every_second(T, T c, T) {
  return c;
}

template <class T, class... C>
ONEPASS_HD T every_second(T z, T c, T, C... rest) {
  return muladd(z, every_second(z, rest...), c);
}

// c0 + c1 x + c2 x^2 + ... as two independent Horner chains in x^2, which the CPU overlaps.
template <class T, class... C>
ONEPASS_HD T poly(T x, T c, C... rest) {
  T z = x * x;
  return muladd(x, every_second(z, rest...), every_second(z, c, rest...));
}

// p (c0 + c1 f x + c2 f^2 x^2 + ...) for constant powers of two p and f, which fold into the
// coefficients. One chain: one operation fewer than poly(), and as fast up to degree four.
template <class T>
ONEPASS_HD T chain(T, T, T p, T c) {
  return p * c;
}

template <class T, class... C>
ONEPASS_HD T chain(T x, T f, T p, T c, C... rest) {
  return muladd(x, chain(x, f, p * f, rest...), p * c);
}

}  // namespace math
ONEPASS_END
