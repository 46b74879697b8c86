// The instructions that code_blocks.cpp needs, by vectors of AVX-512 or AVX2.
#pragma once
#ifdef __GNUC__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // in a header of GCC 12
#endif
#include <immintrin.h>
#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif

#include "core/hd.h"

ONEPASS_BEGIN
namespace {

#ifdef __AVX512BW__

struct Vectors {
  static constexpr int kLanes = 16;
  using Floats = __m512;
  using Ints = __m512i;

  ONEPASS_HD static Ints all(uint32_t bits) { return _mm512_set1_epi32(int32_t(bits)); }
  ONEPASS_HD static Floats all(float value) { return _mm512_set1_ps(value); }
  ONEPASS_HD static Floats load(const float* at) { return _mm512_loadu_ps(at); }
  ONEPASS_HD static Ints load(const uint32_t* at) { return _mm512_loadu_si512(at); }
  ONEPASS_HD static void store(float* at, Floats v) { _mm512_storeu_ps(at, v); }
  template <bool kSigned>
  ONEPASS_HD static Ints widen(const uint8_t* codes) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
    return kSigned ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes);
  }

  ONEPASS_HD static Ints bits(Floats v) { return _mm512_castps_si512(v); }
  ONEPASS_HD static Floats value(Ints v) { return _mm512_castsi512_ps(v); }
  ONEPASS_HD static Floats to_float(Ints v) { return _mm512_cvtepi32_ps(v); }
  ONEPASS_HD static Ints truncate(Floats v) { return _mm512_cvttps_epi32(v); }
  ONEPASS_HD static Floats times(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  ONEPASS_HD static Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  ONEPASS_HD static Ints subtract(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
  ONEPASS_HD static Ints larger(Ints a, Ints b) { return _mm512_max_epi32(a, b); }
  ONEPASS_HD static Ints both(Ints a, Ints b) { return _mm512_and_si512(a, b); }
  // a | (b & c)
  ONEPASS_HD static Ints with(Ints a, Ints b, Ints c) {
    return _mm512_ternarylogic_epi32(a, b, c, 0xf8);
  }
  template <int kBits>
  ONEPASS_HD static Ints left(Ints v) {
    return _mm512_slli_epi32(v, kBits);
  }
  template <int kBits>
  ONEPASS_HD static Ints right(Ints v) {
    return _mm512_srli_epi32(v, kBits);
  }
  template <int kBits>
  ONEPASS_HD static Ints right_signed(Ints v) {
    return _mm512_srai_epi32(v, kBits);
  }

  // The upper halves of 32 bits of two vectors, by turns.
  ONEPASS_HD static Ints upper_halves(Ints a, Ints b) {
    return _mm512_mask_blend_epi16(0xaaaaaaaau, right<16>(a), b);
  }
  ONEPASS_HD static Ints less_one(Ints v) { return _mm512_subs_epu16(v, _mm512_set1_epi16(1)); }
  // Words to bytes, in the order of the four vectors they come from.
  template <bool kSigned>
  ONEPASS_HD static Ints pack(Ints a, Ints b) {
    const __m128i pairs = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    Ints bytes = kSigned ? _mm512_packs_epi16(a, b) : _mm512_packus_epi16(a, b);
    bytes = _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(pairs));
    return _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
  }
  ONEPASS_HD static void store(uint8_t* at, Ints v) { _mm512_storeu_si512(at, v); }
  ONEPASS_HD static uint32_t largest(Ints v) { return uint32_t(_mm512_reduce_max_epi32(v)); }
};

#else

struct Vectors {
  static constexpr int kLanes = 8;
  using Floats = __m256;
  using Ints = __m256i;

  ONEPASS_HD static Ints all(uint32_t bits) { return _mm256_set1_epi32(int32_t(bits)); }
  ONEPASS_HD static Floats all(float value) { return _mm256_set1_ps(value); }
  ONEPASS_HD static Floats load(const float* at) { return _mm256_loadu_ps(at); }
  ONEPASS_HD static Ints load(const uint32_t* at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  }
  ONEPASS_HD static void store(float* at, Floats v) { _mm256_storeu_ps(at, v); }
  template <bool kSigned>
  ONEPASS_HD static Ints widen(const uint8_t* codes) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes));
    return kSigned ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes);
  }

  ONEPASS_HD static Ints bits(Floats v) { return _mm256_castps_si256(v); }
  ONEPASS_HD static Floats value(Ints v) { return _mm256_castsi256_ps(v); }
  ONEPASS_HD static Floats to_float(Ints v) { return _mm256_cvtepi32_ps(v); }
  ONEPASS_HD static Ints truncate(Floats v) { return _mm256_cvttps_epi32(v); }
  ONEPASS_HD static Floats times(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  ONEPASS_HD static Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  ONEPASS_HD static Ints subtract(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
  ONEPASS_HD static Ints larger(Ints a, Ints b) { return _mm256_max_epi32(a, b); }
  ONEPASS_HD static Ints both(Ints a, Ints b) { return _mm256_and_si256(a, b); }
  ONEPASS_HD static Ints with(Ints a, Ints b, Ints c) { return _mm256_or_si256(a, both(b, c)); }
  template <int kBits>
  ONEPASS_HD static Ints left(Ints v) {
    return _mm256_slli_epi32(v, kBits);
  }
  template <int kBits>
  ONEPASS_HD static Ints right(Ints v) {
    return _mm256_srli_epi32(v, kBits);
  }
  template <int kBits>
  ONEPASS_HD static Ints right_signed(Ints v) {
    return _mm256_srai_epi32(v, kBits);
  }

  ONEPASS_HD static Ints upper_halves(Ints a, Ints b) {
    return _mm256_blend_epi16(right<16>(a), b, 0xaa);
  }
  ONEPASS_HD static Ints less_one(Ints v) { return _mm256_subs_epu16(v, _mm256_set1_epi16(1)); }
  template <bool kSigned>
  ONEPASS_HD static Ints pack(Ints a, Ints b) {
    const __m128i pairs = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    Ints bytes = kSigned ? _mm256_packs_epi16(a, b) : _mm256_packus_epi16(a, b);
    bytes = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(pairs));
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  ONEPASS_HD static void store(uint8_t* at, Ints v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), v);
  }
  ONEPASS_HD static uint32_t largest(Ints v) {
    __m128i one = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    one = _mm_max_epi32(one, _mm_shuffle_epi32(one, 0x4e));
    one = _mm_max_epi32(one, _mm_shuffle_epi32(one, 0xb1));
    return uint32_t(_mm_cvtsi128_si32(one));
  }
};

#endif

}  // namespace
ONEPASS_END
