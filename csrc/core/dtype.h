// Element types, and the conversions between a storage type and the type a kernel computes in.
//
// Every conversion rounds once, to nearest with ties to even; overflow gives Inf, a NaN stays a NaN
// (quiet), subnormals are exact. All are branch-free, so a loop around them vectorises, and none
// puts a subnormal through float arithmetic, so the bits stay right while FlushDenormals is alive.
#pragma once
#include "hd.h"
#include "math.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace onepass {

enum class DType : int32_t { f32, f64, f16, bf16 };

constexpr int64_t size_of(DType t) { return t == DType::f64 ? 8 : t == DType::f32 ? 4 : 2; }

// IEEE binary16 and bfloat16 as they lie in memory.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of<Half> {
  static constexpr DType value = DType::f16;
};
template <>
struct dtype_of<BFloat16> {
  static constexpr DType value = DType::bf16;
};

}  // namespace onepass

ONEPASS_BEGIN

ONEPASS_HD float to_float(float x) { return x; }

ONEPASS_HD float to_float(Half h) {
  uint32_t a = h.bits & 0x7fffu;
  uint32_t normal = (a << 13) + (112u << 23);
  uint32_t special = (a << 13) | 0x7f800000u | (a > 0x7c00u ? 0x400000u : 0u);
  uint32_t subnormal =
      math::to_bits(float(int32_t(a)) * 0x1p-24f);  // the product is a normal float
  uint32_t bits = a < 0x400u ? subnormal : a < 0x7c00u ? normal : special;
  return math::from_bits(bits | uint32_t(h.bits & 0x8000u) << 16);
}

ONEPASS_HD float to_float(BFloat16 h) {
  uint32_t bits = uint32_t(h.bits) << 16;
  return math::from_bits(bits | ((bits & 0x7fffffffu) > 0x7f800000u ? 0x400000u : 0u));
}

ONEPASS_HD double to_double(double x) { return x; }
ONEPASS_HD double to_double(Half h) { return double(to_float(h)); }

// float's subnormals are those of bfloat16: widening through the unit keeps them when the processor
// reads subnormals as zero.
ONEPASS_HD double to_double(float x) {
  uint32_t a = math::to_bits(x) & 0x7fffffffu;
  double tiny = double(int32_t(a & 0x7fffffu)) * 0x1p-149;
  double wide = double(a < 0x800000u ? 0.0f : x);
  uint64_t sign = uint64_t(math::to_bits(x) & 0x80000000u) << 32;
  uint64_t bits = math::to_bits(a < 0x800000u ? tiny : wide);
  return math::from_bits(bits | sign);
}
ONEPASS_HD double to_double(BFloat16 h) { return to_double(to_float(h)); }

template <class S>
ONEPASS_HD S from_float(float x);

template <>
ONEPASS_HD float from_float<float>(float x) {
  return x;
}

template <>
ONEPASS_HD double from_float<double>(float x) {
  return to_double(x);
}

template <>
ONEPASS_HD Half from_float<Half>(float x) {
  uint32_t bits = math::to_bits(x), a = bits & 0x7fffffffu;
  uint32_t normal = (a - (112u << 23) + 0xfffu + ((a >> 13) & 1u)) >> 13;
  // Adding 2^23 rounds |x| * 2^24 to an integer: the count of 2^-24, half's subnormal unit.
  uint32_t subnormal = math::to_bits(math::from_bits(a) * 0x1p24f + 0x1p23f) - 0x4b000000u;
  uint32_t special = a > 0x7f800000u ? 0x7e00u | ((a >> 13) & 0x3ffu) : 0x7c00u;
  uint32_t h = a < 0x38800000u ? subnormal : a < 0x47800000u ? normal : special;
  return Half{uint16_t(h | ((bits >> 16) & 0x8000u))};
}

template <>
ONEPASS_HD BFloat16 from_float<BFloat16>(float x) {
  uint32_t bits = math::to_bits(x);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  uint32_t quiet = bits >> 16 | 0x40u;
  return BFloat16{uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded)};
}

template <class S>
ONEPASS_HD S from_double(double x);

template <>
ONEPASS_HD double from_double<double>(double x) {
  return x;
}

// One rounding from double to a format of `kMantissa` stored bits and `kBias`, with 15 bits in all:
// the normal range by integer rounding of the bits, the subnormal range by counting its unit.
template <int kMantissa, int kBias>
ONEPASS_HD uint16_t round_double(double x) {
  constexpr int kShift = 52 - kMantissa;
  constexpr int64_t kRebias = int64_t(1023 - kBias) << 52;
  constexpr int64_t kInf = int64_t(2 * kBias + 1) << kMantissa;
  constexpr int64_t kQuiet = int64_t(1) << (kMantissa - 1);
  constexpr int64_t kMask = (int64_t(1) << kMantissa) - 1;
  constexpr int64_t kMinNormal = int64_t(1023 + 1 - kBias) << 52;
  constexpr int64_t kOverflow = int64_t(1023 + 1 + kBias) << 52;
  constexpr int64_t kDoubleInf = int64_t(0x7ff) << 52;
  double unit = math::from_bits(uint64_t(1023 + kBias - 1 + kMantissa) << 52);
  uint64_t bits = math::to_bits(x);
  int64_t a = int64_t(bits & 0x7fffffffffffffffu);
  int64_t lsb = int64_t((uint64_t(a) >> kShift) & 1u);
  int64_t normal =
      int64_t(uint64_t(a - kRebias + (int64_t(1) << (kShift - 1)) - 1 + lsb) >> kShift);
  int64_t subnormal = int64_t(math::to_bits(math::abs(x) * unit + 0x1p52) - (uint64_t(1075) << 52));
  int64_t nan = kInf | kQuiet | (int64_t(uint64_t(a) >> kShift) & kMask);
  int64_t special = a > kDoubleInf ? nan : kInf;
  int64_t h = a < kMinNormal ? subnormal : a < kOverflow ? normal : special;
  return uint16_t(uint64_t(h) | ((bits >> 48) & 0x8000u));
}

template <>
ONEPASS_HD Half from_double<Half>(double x) {
  return Half{round_double<10, 15>(x)};
}

template <>
ONEPASS_HD BFloat16 from_double<BFloat16>(double x) {
  return BFloat16{round_double<7, 127>(x)};
}

// The hardware conversion, except where a subnormal result would be flushed.
template <>
ONEPASS_HD float from_double<float>(double x) {
  uint64_t bits = math::to_bits(x);
  int64_t a = int64_t(bits & 0x7fffffffffffffffu);
  uint32_t tiny = uint32_t(math::to_bits(math::abs(x) * 0x1p149 + 0x1p52));
  uint32_t sign = uint32_t(bits >> 32) & 0x80000000u;
  bool small = a < int64_t(0x3810000000000000);
  uint32_t wide = math::to_bits(float(small ? 1.0 : math::abs(x)));
  return math::from_bits((small ? tiny : wide) | sign);
}

// Subnormal results and operands count as zero on this thread while one of these lives: second
// moments of dead units decay into subnormals, which cost up to 6x. Does nothing where the
// processor has no such switch that the code can set cheaply (everywhere but x86).
class FlushDenormals {
 public:
#if defined(__SSE2__) && !defined(__CUDA_ARCH__)
  FlushDenormals() : saved_(_mm_getcsr()) { set(saved_ | 0x8040u); }
  ~FlushDenormals() { set(saved_); }

 private:
  static void set(unsigned csr) {
    asm volatile("" ::: "memory");  // arithmetic on memory must not move across the switch
    _mm_setcsr(csr);
    asm volatile("" ::: "memory");
  }
  unsigned saved_;

 public:
#else
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
};

ONEPASS_END
