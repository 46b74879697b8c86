// Elementary functions, branch-free, for float and double: the same bits at every instruction set
// and on CUDA.
//
// Only + - * / sqrt, muladd(), integer operations, comparisons and selects, each rounded on its own
// (compile with -ffp-contract=off, --fmad=false), so a loop around any of them vectorises and no
// level can differ. A NaN gives a NaN, +-Inf the limit, odd functions keep the sign of zero,
// results underflow gradually. Coefficients are minimax fits made for these intervals with Sollya's
// fpminimax (Brisebarre, Chevillard, "Efficient polynomial L-infinity approximations", ARITH 2007).
// "Error: a, b ulp" bounds what was found in float (exp: every value; others: every value in 2^-6
// to 2^5, one in 101 elsewhere) and in double (12 million values); tests/test_core.py holds them.
#pragma once
#include "hd.h"

ONEPASS_BEGIN
namespace math {

ONEPASS_HD constexpr uint32_t to_bits(float x) { return __builtin_bit_cast(uint32_t, x); }
ONEPASS_HD constexpr uint64_t to_bits(double x) { return __builtin_bit_cast(uint64_t, x); }
ONEPASS_HD constexpr float from_bits(uint32_t b) { return __builtin_bit_cast(float, b); }
ONEPASS_HD constexpr double from_bits(uint64_t b) { return __builtin_bit_cast(double, b); }

// What the generic code below needs to know of a format. x - k kLn2Hi is exact: in double kLn2Hi
// ends in enough zero bits for the product to be, in float muladd() does not round it. Adding
// kShift rounds to an integer, left in the low bits; exponentials are 2^kLift = 1 / kDown times
// as large, beyond the subnormals, until they are whole.
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

// The compiler's own function: a bitwise "and" before a clamp becomes two, one of them masked.
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

// Zero, which the compiler does not know: it is not constant, and "used" may mean written. GCC 12
// makes the one instruction min or max of a clamp only to a bound that lies in a variable. Of a
// constant it makes a comparison and a blend (three instructions' work on AVX2), and another blend
// for each operation that it has worked out for the bound.
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

// x or, below 0, -0: by its bits, since AVX2 blends by a sign without a comparison. For a NaN too.
template <class T>
ONEPASS_HD T ramp(T x) {
  constexpr auto s = Format<T>::kSign;
  return from_bits(to_bits(x) < s ? to_bits(x) : s);
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

// x^n by repeated squaring, each product rounded: relative error below n 2^-53, as much as rounding
// x once more would give its power. A libm's pow has other bits on another machine, or on a GPU.
ONEPASS_HD double power(double x, uint64_t n) {
  double y = 1;
  for (; n != 0; n >>= 1) {
    if (n & 1) y *= x;
    x *= x;
  }
  return y;
}

// a b + c: in float rounded once, in double twice (x86-64-v2 has no such instruction and no cheap
// way to do without). There the float sum is rounded to double first, which gives other bits once
// in 2^29 sums: never in the functions of this file and of kernels/, which were compared at all
// 2^32 floats (core_test every). For functions of one float only, therefore.
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

// The terms of even index of c0 + c1 z + c2 z + c3 z^2 + ... : every second coefficient.
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

// c0 + c1 x + c2 x^2 + ... as two Horner chains in x^2, which run side by side.
template <class T, class... C>
ONEPASS_HD T poly(T x, T c, C... rest) {
  T z = x * x;
  return muladd(x, every_second(z, rest...), every_second(z, c, rest...));
}

// p (c0 + c1 f x + c2 f^2 x^2 + ...) for constant powers of two p and f, which cost nothing. One
// chain: an operation less than poly(), and up to degree four no longer.
template <class T>
ONEPASS_HD T chain(T, T, T p, T c) {
  return p * c;
}

template <class T, class... C>
ONEPASS_HD T chain(T x, T f, T p, T c, C... rest) {
  return muladd(x, chain(x, f, p * f, rest...), p * c);
}

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

// f x = k ln(2) + f r + tiny with |f r| <= ln(2) / 2: Cody and Waite. k comes as the low bits of
// `shifted`, moved by `move`. Float takes a constant f = +-2^n into its constants; only double,
// without a fused product, needs tiny.
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

// In float the last bits of ln(2) are k 2^-29 of f x, less than a rounding of it: left out
// (rounded) where f x is the result of one already, or where the result hardly depends on it.
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

// y 2^k in two exact steps and one rounding: k may lead beyond the exponents on both sides.
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

// exp(f x) 2^lift for a constant f = +-2^n, wherever that is a normal number: the bias moves with
// k, and of kShiftBits the last shift leaves nothing. By default the lift is 1 / kDown, good for
// kExpMin <= f x <= 0; callers multiply by kDown where they end, so that small results are rounded
// once, gradually.
template <Ln2 kLn2 = Ln2::whole, class T>
ONEPASS_HD T exp_lifted(T x, T f, int lift = Format<T>::kLift) {
  using F = Format<T>;
  Reduced<T> e = reduce<kLn2>(x, F::kBias + lift, f);
  return exp_reduced(e) * from_bits(e.shifted << F::kMantissa);
}

// exp(x) for x <= 0 only, at less cost.
template <class T>
ONEPASS_HD T exp_down(T x) {
  using F = Format<T>;
  return exp_lifted(at_least(x, F::kExpMin), T(1)) * F::kDown;
}

// The same where subnormals count as zero: k ends at -kBias, of which the power's bits are zero.
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

// log(1 + f) + k ln(2) for kLeast <= 1 + f <= 2 kLeast: a polynomial suits 2/3 best, s below
// sqrt(1/2).
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

// erf(x) / x - 1 in z = x^2 <= 1.
ONEPASS_HD float erf_small(float z) {
  return poly(z, 0x1.06eba8p-3f, -0x1.81273ep-2f, 0x1.ce2cf2p-4f, -0x1.b7f88cp-6f, 0x1.540172p-8f,
              -0x1.a3d812p-11f, 0x1.4917a4p-14f);
}

ONEPASS_HD double erf_small(double z) {
  return poly(z, 0x1.06eba8214db68p-3, -0x1.812746b0379b2p-2, 0x1.ce2f21a0408d1p-4,
              -0x1.b82ce311ee09bp-6, 0x1.565bccf7e2856p-8, -0x1.c02db0149d904p-11,
              0x1.f9a2b75531772p-14, -0x1.f4ca204c771c5p-17, 0x1.b97e44280cfb9p-20,
              -0x1.5bfe76384472p-23, 0x1.d6e3ddfeb1f49p-27, -0x1.ab15c51d2ebebp-31);
}

// log(erfc(t)) on [1, 4] and [1, 6], each weighted by erfc.
ONEPASS_HD float log_erfc(float t) {
  return poly(t, -0x1.47a612p-12f, -0x1.209054p0f, -0x1.46a35ap-1f, -0x1.a6eff8p-4f, 0x1.66ea6ap-6f,
              -0x1.847f84p-9f, 0x1.8a347ep-13f);
}

ONEPASS_HD double log_erfc(double t) {
  return poly(t, -0x1.01bb5cc33871cp-21, -0x1.20dd235f0f167p0, -0x1.45f608d265781p-1,
              -0x1.a4aee46d0ddefp-4, 0x1.3735232c85b46p-6, 0x1.a858338702c85p-12,
              -0x1.f4aa8983d88b4p-10, 0x1.9188a1f4411e6p-11, -0x1.1504749501a7ap-13,
              -0x1.6c3ffa9898f5dp-16, 0x1.883a7a15fc4a3p-16, -0x1.2874aed0fa29dp-17,
              0x1.23ea55b0c9638p-19, -0x1.984e14654ac9ep-22, 0x1.96881cd8ac915p-25,
              -0x1.13ec2c604f571p-28, 0x1.cb83d0fecef9fp-33, -0x1.62de52f16acc6p-38);
}

// x + x S(x^2) up to 1, 1 - exp(log erfc |x|) beyond. Error: 1.20, 1.40 ulp.
template <class T>
ONEPASS_HD T erf(T x) {
  using F = Format<T>;
  T a = abs(x), t = a > F::kErfMax ? F::kErfMax : a;
  Reduced<T> e = reduce(log_erfc(t));
  T scale = from_bits((e.shifted - (F::kShiftBits - F::kBias)) << F::kMantissa);
  T large = T(1) - exp_reduced(e) * scale;
  T small = x + x * erf_small(x * x);
  return a > T(1) ? copysign(large, x) : small;
}

// Mills' ratio of the normal distribution over sqrt(2 pi), M(t) = Q(t) exp(t^2/2), Q(t) the chance
// that a normal variable exceeds t >= 0: what is left of its tail when the caller has the
// exponential; times a constant power of two. For t up to 15 and 40. Float: a quotient, relative
// error of the fit 2^-24.7. Error: 5.7, 6.8 ulp, close under 1/2.
ONEPASS_HD float mills(float t, float scale = 1.0f) {
  const float p =
      chain(t, 1.0f, scale, 0.5f, 0x1.acc64ap-2f, 0x1.58dad8p-3f, 0x1.2319c2p-5f, 0x1.b57ee8p-9f);
  const float q = chain(t, 1.0f, 1.0f, 1.0f, 0x1.a2a54ep+0f, 0x1.243eaap+0f, 0x1.b8893cp-2f,
                        0x1.6ce2bap-4f, 0x1.122714p-7f);
  return p / q;
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

}  // namespace math
ONEPASS_END
