// Element types, and the conversions between a storage type and the type a kernel computes in.
//
// Every conversion rounds once, to nearest with ties to even; overflow gives Inf, a NaN stays a
// (quiet) NaN, subnormals are exact. All are branch-free, so a loop around them vectorises. None
// computes with a subnormal float, so the bits stay right while FlushDenormals is alive.
#pragma once
#include "basic.h"
#include "hd.h"

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

namespace onepass {

enum class DType : int32_t { f32, f64, f16, bf16 };

constexpr int64_t size_of(DType t) { return t == DType::f64 ? 8 : t == DType::f32 ? 4 : 2; }

// IEEE binary16 and bfloat16, as the bits in memory.
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

// The code below compares bits as signed integers, which every instruction set can do.

// Widens to T a number of a format with kMantissa stored bits and bias kBias, given without its
// sign.
template <class T, int kMantissa, int kBias>
ONEPASS_HD typename math::Format<T>::Bits widen(typename math::Format<T>::Bits bits) {
  using F = math::Format<T>;
  using Bits = typename F::Bits;
  using Int = typename F::Int;
  constexpr int kExtra = F::kMantissa - kMantissa;
  constexpr Int kOne = Int(1) << F::kMantissa, kRebias = (F::kBias - kBias) * kOne;
  constexpr Int kTop = Int(2 * kBias + 1) << kMantissa;
  constexpr T kLeastNormal = math::from_bits(Bits(kRebias + kOne));
  Int a = Int(bits), normal = Int(bits << kExtra) + kRebias;
  // A subnormal has the least exponent but no leading 1: add the 1, then subtract it.
  Int subnormal = Int(math::to_bits(math::from_bits(Bits(normal + kOne)) - kLeastNormal));
  Int y = a < kTop ? normal : normal + kRebias;
  y |= a > kTop ? kOne >> 1 : 0;
  return Bits(a < Int(1) << kMantissa ? subnormal : y);
}

// The inverse, rounded. Near a power of two kExtra binades above x, T has the bits of the narrow
// format, so adding that power rounds x. In the subnormal range the power stays at its least value.
template <int kMantissa, int kBias, class T>
ONEPASS_HD typename math::Format<T>::Bits narrow(T x) {
  using F = math::Format<T>;
  using Bits = typename F::Bits;
  using Int = typename F::Int;
  constexpr int kExtra = F::kMantissa - kMantissa;
  constexpr Int kOne = Int(1) << F::kMantissa, kLeast = (F::kBias - kBias + 1) * kOne;
  constexpr Int kTop = (F::kBias + kBias + 1) * kOne;  // the narrow Inf
  constexpr Bits kNan = Bits(4 * kBias + 3) << (kMantissa - 1);
  Int a = Int(math::to_bits(math::abs(x))), c = a < kTop ? a : kTop;
  Bits exponent = Bits(c > kLeast ? c : kLeast) & F::kInf, magic = exponent + Bits(kExtra * kOne);
  Bits sum = math::to_bits(math::from_bits(Bits(c)) + math::from_bits(magic));
  Bits y = ((exponent - Bits(kLeast)) >> kExtra) + (sum - magic);
  return math::isnan(x) ? kNan : y;
}

ONEPASS_HD float to_float(float x) { return x; }

ONEPASS_HD float to_float(Half x) {
  return math::from_bits(widen<float, 10, 15>(x.bits & 0x7fffu) | (x.bits & 0x8000u) << 16);
}

ONEPASS_HD float to_float(BFloat16 x) {
  uint32_t bits = uint32_t(x.bits) << 16;
  return math::from_bits(bits | ((bits & 0x7fffffffu) > 0x7f800000u ? 0x400000u : 0u));
}

ONEPASS_HD double to_double(double x) { return x; }

ONEPASS_HD double to_double(float x) {
  uint64_t bits = math::to_bits(x), a = bits & 0x7fffffffu;
  return math::from_bits(widen<double, 23, 127>(a) | (bits & 0x80000000u) << 32);
}

ONEPASS_HD double to_double(Half x) { return double(to_float(x)); }  // zero or a normal float

ONEPASS_HD double to_double(BFloat16 x) { return to_double(to_float(x)); }

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
  return Half{uint16_t(narrow<10, 15>(x) | (math::to_bits(x) >> 16 & 0x8000u))};
}

// bfloat16 has float's exponents: rounding is an integer addition.
template <>
ONEPASS_HD BFloat16 from_float<BFloat16>(float x) {
  uint32_t bits = math::to_bits(x), rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  return BFloat16{uint16_t((math::isnan(x) ? bits | 0x400000u : rounded) >> 16)};
}

template <class S>
ONEPASS_HD S from_double(double x);

template <>
ONEPASS_HD double from_double<double>(double x) {
  return x;
}

template <>
ONEPASS_HD float from_double<float>(double x) {
  uint32_t sign = uint32_t(math::to_bits(x) >> 32) & 0x80000000u;
  return math::from_bits(uint32_t(narrow<23, 127>(x)) | sign);
}

template <>
ONEPASS_HD Half from_double<Half>(double x) {
  return Half{uint16_t(narrow<10, 15>(x) | (math::to_bits(x) >> 48 & 0x8000u))};
}

template <>
ONEPASS_HD BFloat16 from_double<BFloat16>(double x) {
  return BFloat16{uint16_t(narrow<7, 127>(x) | (math::to_bits(x) >> 48 & 0x8000u))};
}

// While one of these lives, subnormal results and operands count as zero on this thread: second
// moments of dead units decay into subnormals, which cost up to 6x. It has no effect on processors
// other than x86-64 and aarch64.
class FlushDenormals {
 public:
  ONEPASS_HD FlushDenormals() : saved_(read()) { write(saved_ | kFlush); }
  ONEPASS_HD ~FlushDenormals() { write(saved_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  // Loads and stores of the kernel stay on their side of a write.
#if defined(__SSE2__) && !defined(__CUDA_ARCH__)
  static constexpr uint64_t kFlush = 0x8040;  // of results, and operands
  ONEPASS_HD static uint64_t read() { return _mm_getcsr(); }
  ONEPASS_HD static void write(uint64_t csr) {
    asm volatile("" ::: "memory");
    _mm_setcsr(unsigned(csr));
    asm volatile("" ::: "memory");
  }
#elif defined(__aarch64__) && !defined(__CUDA_ARCH__)
  static constexpr uint64_t kFlush = uint64_t(1) << 24;  // FZ: of results and operands
  ONEPASS_HD static uint64_t read() {
    uint64_t fpcr;
    asm volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
  }
  ONEPASS_HD static void write(uint64_t fpcr) {
    asm volatile("msr fpcr, %0" ::"r"(fpcr) : "memory");
  }
#else
  static constexpr uint64_t kFlush = 0;
  ONEPASS_HD static uint64_t read() { return 0; }
  ONEPASS_HD static void write(uint64_t) {}
#endif
  uint64_t saved_;
};

ONEPASS_END
