#include "cpu/code_blocks.h"

#include "kernels/rounding.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

ONEPASS_BEGIN
namespace {

// Whole blocks: from_code, to_code and magnitude_bits of core/codes.h by AVX2, because GCC widens
// and narrows 8 bits through 16, which takes more instructions.
#ifdef __AVX2__

ONEPASS_HD __m256i constant(uint32_t bits) { return _mm256_set1_epi32(int32_t(bits)); }

template <bool kSigned>
ONEPASS_HD __m256 load_8(const uint8_t* codes) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes));
  if constexpr (kSigned) {
    const __m256 c = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
    const __m256i twice = _mm256_slli_epi32(_mm256_castps_si256(c), 1);
    const __m256i square = _mm256_max_epi32(
        _mm256_sub_epi32(twice, constant(kBitsOfOne + 13 * kOctave)), _mm256_setzero_si256());
    return _mm256_or_ps(_mm256_castsi256_ps(square), _mm256_and_ps(c, _mm256_set1_ps(-0.0f)));
  } else {
    const __m256i next = _mm256_add_epi32(_mm256_cvtepu8_epi32(bytes), constant(1));
    const __m256i c = _mm256_castps_si256(_mm256_cvtepi32_ps(next));
    return _mm256_castsi256_ps(
        _mm256_sub_epi32(_mm256_slli_epi32(c, 2), constant(3 * kBitsOfOne + 32 * kOctave)));
  }
}
template <bool kSigned>
[[gnu::noinline]] void load_run(const uint8_t* codes, float unit, float* to) {
  const __m256 scale = _mm256_set1_ps(unit);
  for (int64_t i = 0; i < kCodeBlock; i += 32)
    for (int64_t at = i; at < i + 32; at += 8)
      _mm256_storeu_ps(to + at, _mm256_mul_ps(load_8<kSigned>(codes + at), scale));
}
template <bool kSigned>
[[gnu::noinline]] void store_run(const float* from, float inverse, const uint32_t* dither,
                                 uint8_t* codes) {
  const __m256 scale = _mm256_set1_ps(inverse);
  for (int64_t i = 0; i < kCodeBlock; i += 32) {
    __m256i code[4];  // in the upper halves
    for (int v = 0; v < 4; ++v) {
      const int64_t at = i + 8 * v;
      const __m256i bits = _mm256_castps_si256(_mm256_mul_ps(_mm256_loadu_ps(from + at), scale));
      __m256i y;
      if constexpr (kSigned) {
        y = _mm256_add_epi32(_mm256_and_si256(_mm256_srai_epi32(bits, 1), constant(0xbfffffffu)),
                             constant(kRootSigned));
      } else {
        y = _mm256_add_epi32(_mm256_srli_epi32(bits, 2), constant(kRootUnsigned));
      }
      code[v] = _mm256_add_epi32(_mm256_cvttps_epi32(_mm256_castsi256_ps(y)),
                                 _mm256_loadu_si256(reinterpret_cast<const __m256i*>(dither + at)));
    }
    constexpr int kOdd = 0xaa;
    const __m256i a = _mm256_blend_epi16(_mm256_srli_epi32(code[0], 16), code[1], kOdd);
    const __m256i b = _mm256_blend_epi16(_mm256_srli_epi32(code[2], 16), code[3], kOdd);
    __m256i bytes;
    if constexpr (kSigned) {
      bytes = _mm256_packs_epi16(a, b);
    } else {
      const __m256i one = _mm256_set1_epi16(1);
      bytes = _mm256_packus_epi16(_mm256_subs_epu16(a, one), _mm256_subs_epu16(b, one));
    }
    const __m128i pairs = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    bytes = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(pairs));
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i), bytes);
  }
}
[[gnu::noinline]] uint32_t largest_bits(const float* v) {
  const __m256i magnitude = constant(0x7fffffffu);
  __m256i most[4] = {};
  for (int64_t i = 0; i < kCodeBlock; i += 32)
    for (int l = 0; l < 4; ++l) {
      const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(v + i + 8 * l));
      most[l] = _mm256_max_epi32(most[l], _mm256_and_si256(bits, magnitude));
    }
  const __m256i pair =
      _mm256_max_epi32(_mm256_max_epi32(most[0], most[1]), _mm256_max_epi32(most[2], most[3]));
  __m128i one = _mm_max_epi32(_mm256_castsi256_si128(pair), _mm256_extracti128_si256(pair, 1));
  one = _mm_max_epi32(one, _mm_shuffle_epi32(one, 0x4e));
  one = _mm_max_epi32(one, _mm_shuffle_epi32(one, 0xb1));
  return uint32_t(_mm_cvtsi128_si32(one));
}

#else

template <bool kSigned>
[[gnu::noinline]] void load_run(const uint8_t* codes, float unit, float* to) {
#pragma GCC ivdep
  for (int64_t i = 0; i < kCodeBlock; ++i) to[i] = from_code<kSigned>(codes[i]) * unit;
}
template <bool kSigned>
[[gnu::noinline]] void store_run(const float* from, float inverse, const uint32_t* dither,
                                 uint8_t* codes) {
#pragma GCC ivdep
  for (int64_t i = 0; i < kCodeBlock; ++i)
    codes[i] = to_code<kSigned>(from[i] * inverse, dither[i]);
}
[[gnu::noinline]] uint32_t largest_bits(const float* v) {
  int32_t most = 0;
#pragma GCC ivdep
  for (int64_t i = 0; i < kCodeBlock; ++i) {
    const int32_t bits = int32_t(magnitude_bits(v[i]));
    most = most > bits ? most : bits;
  }
  return uint32_t(most);
}

#endif

template <bool kSigned>
ONEPASS_HD void load(const uint8_t* codes, float scale, int64_t n, float* state) {
  const float unit = unit_of<kSigned>(scale);
  if (n == kCodeBlock) return load_run<kSigned>(codes, unit, state);
  alignas(64) uint8_t whole[kCodeBlock] = {};
  for (int64_t i = 0; i < n; ++i) whole[i] = codes[i];
  load_run<kSigned>(whole, unit, state);
}
template <bool kSigned>
ONEPASS_HD void store(float* state, const CodeDither& dither, int64_t n, uint8_t* codes,
                      float* scale) {
  for (int64_t i = n; i < kCodeBlock; ++i) state[i] = 0;
  const BlockScale<kSigned> block(largest_bits(state));
  *scale = block.scale;
  if (!block.any) {
    for (int64_t i = 0; i < n; ++i) codes[i] = 0;
    return;
  }
  if (n == kCodeBlock) return store_run<kSigned>(state, block.inverse, dither.at, codes);
  alignas(64) uint8_t whole[kCodeBlock];
  store_run<kSigned>(state, block.inverse, dither.at, whole);
  for (int64_t i = 0; i < n; ++i) codes[i] = whole[i];
}

}  // namespace

void fill_dither(uint32_t salt, CodeDither* dither) {
#pragma GCC ivdep
  for (uint32_t i = 0; i < uint32_t(kCodeBlock); ++i) dither->at[i] = code_dither(i, salt);
}
void load_codes(const uint8_t* codes, float scale, bool is_signed, int64_t n, float* state) {
  is_signed ? load<true>(codes, scale, n, state) : load<false>(codes, scale, n, state);
}
void store_codes(float* state, bool is_signed, const CodeDither& dither, int64_t n, uint8_t* codes,
                 float* scale) {
  is_signed ? store<true>(state, dither, n, codes, scale)
            : store<false>(state, dither, n, codes, scale);
}

ONEPASS_END
