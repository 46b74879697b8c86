#include "cpu/code_blocks.h"

#include "kernels/rounding.h"

#ifdef __AVX2__
#include "cpu/code_vectors.h"
#endif

ONEPASS_BEGIN
namespace {

// Whole blocks: from_code, to_code and magnitude_bits of core/codes.h by vectors, because GCC
// widens and narrows 8 bits through 16, which takes more instructions.
#ifdef __AVX2__

using V = Vectors;
constexpr int kLanes = V::kLanes, kGroup = 4 * kLanes;

template <bool kSigned>
ONEPASS_HD V::Floats load(const uint8_t* codes) {
  if constexpr (kSigned) {
    const V::Ints c = V::bits(V::to_float(V::widen<true>(codes)));
    const V::Ints square = V::larger(V::subtract(V::left<1>(c), V::all(kBitsOfOne + 13 * kOctave)),
                                     V::all(uint32_t(0)));
    return V::value(V::with(square, c, V::all(0x80000000u)));
  } else {
    const V::Ints next = V::add(V::widen<false>(codes), V::all(uint32_t(1)));
    const V::Ints c = V::bits(V::to_float(next));
    return V::value(V::subtract(V::left<2>(c), V::all(3 * kBitsOfOne + 32 * kOctave)));
  }
}
template <bool kSigned>
[[gnu::noinline]] void load_run(const uint8_t* codes, float unit, float* to) {
  const V::Floats scale = V::all(unit);
  for (int64_t i = 0; i < kCodeBlock; i += kGroup)
    for (int64_t at = i; at < i + kGroup; at += kLanes)
      V::store(to + at, V::times(load<kSigned>(codes + at), scale));
}
template <bool kSigned>
[[gnu::noinline]] void store_run(const float* from, float inverse, const uint32_t* dither,
                                 uint8_t* codes) {
  const V::Floats scale = V::all(inverse);
  for (int64_t i = 0; i < kCodeBlock; i += kGroup) {
    V::Ints code[4];  // in the upper halves
    for (int v = 0; v < 4; ++v) {
      const int64_t at = i + kLanes * v;
      const V::Ints bits = V::bits(V::times(V::load(from + at), scale));
      V::Ints y;
      if constexpr (kSigned) {
        y = V::add(V::both(V::right_signed<1>(bits), V::all(0xbfffffffu)), V::all(kRootSigned));
      } else {
        y = V::add(V::right<2>(bits), V::all(kRootUnsigned));
      }
      code[v] = V::add(V::truncate(V::value(y)), V::load(dither + at));
    }
    V::Ints a = V::upper_halves(code[0], code[1]), b = V::upper_halves(code[2], code[3]);
    if constexpr (!kSigned) a = V::less_one(a), b = V::less_one(b);
    V::store(codes + i, V::pack<kSigned>(a, b));
  }
}
[[gnu::noinline]] uint32_t largest_bits(const float* v) {
  const V::Ints magnitude = V::all(0x7fffffffu);
  V::Ints most[4] = {};
  for (int64_t i = 0; i < kCodeBlock; i += kGroup)
    for (int l = 0; l < 4; ++l)
      most[l] = V::larger(most[l], V::both(V::bits(V::load(v + i + kLanes * l)), magnitude));
  return V::largest(V::larger(V::larger(most[0], most[1]), V::larger(most[2], most[3])));
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
