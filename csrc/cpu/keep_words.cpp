#include "cpu/keep_words.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

ONEPASS_BEGIN
namespace {

#ifdef __AVX512F__
constexpr int kKeepGroups = 16;
#else
constexpr int kKeepGroups = 8;
#endif

// The numbers that philox4x32 adds to both words of its key before each round.
struct RoundKeys {
  uint64_t at[10][2];
  explicit RoundKeys(uint64_t seed) {
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    for (auto& round : at) {
      round[0] = k0;
      round[1] = k1;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
  }
};

#if defined(__SSE2__)
// Vectors of 64-bit lanes, and the product of their lower halves. That is one instruction, but GCC
// does not find it (with AVX-512 it takes a 64-bit product, three instructions on Intel
// processors).
template <int kLanes>
struct Pairs;
template <>
struct Pairs<2> {
  typedef uint64_t Type __attribute__((vector_size(16)));
  static Type product(Type a, Type b) { return Type(_mm_mul_epu32(__m128i(a), __m128i(b))); }
};
#if defined(__AVX2__)
template <>
struct Pairs<4> {
  typedef uint64_t Type __attribute__((vector_size(32)));
  static Type product(Type a, Type b) { return Type(_mm256_mul_epu32(__m256i(a), __m256i(b))); }
};
#endif
#if defined(__AVX512F__)
template <>
struct Pairs<8> {
  typedef uint64_t Type __attribute__((vector_size(64)));
  // With a mask of ones, because GCC 12 warns about an undefined operand inside the plain
  // intrinsic.
  static Type product(Type a, Type b) {
    return Type(_mm512_maskz_mul_epu32(0xff, __m512i(a), __m512i(b)));
  }
};
#endif
#if defined(__AVX512F__)
constexpr int kWidest = 8;
#elif defined(__AVX2__)
constexpr int kWidest = 4;
#else
constexpr int kWidest = 2;
#endif

// philox4x32 in 64-bit lanes whose upper halves are ignored, so that a round has nothing to gather.
// At the end the vectors of the even and of the odd groups become one of 32-bit words.
template <int kLanes>
struct PhiloxLanes {
  using V = typename Pairs<kLanes>::Type;
  V x, y, z, w;
  void round(const uint64_t* keys) {
    const V a = Pairs<kLanes>::product(x, V{} + 0xD2511F53u);
    const V b = Pairs<kLanes>::product(z, V{} + 0xCD9E8D57u);
    x = (b >> 32) ^ y ^ (V{} + keys[0]);
    z = (a >> 32) ^ w ^ (V{} + keys[1]);
    y = b;
    w = a;
  }
};

// Plane k of kGroups groups, one a lane: word j of group l goes to r[j * kGroups + l].
template <int kGroups>
void fill_plane(uint32_t* r, uint64_t group, uint32_t k, const DropoutStream& s,
                const RoundKeys& keys) {
  constexpr int kLanes = kGroups / 2 < kWidest ? kGroups / 2 : kWidest;
  using V = typename Pairs<kLanes>::Type;
  V twice;
  for (int l = 0; l < kLanes; ++l) twice[l] = uint64_t(2 * l);
  for (int at = 0; at < kGroups; at += 2 * kLanes) {
    const V even = twice + (group + uint64_t(at)), odd = even + 1;
    const V plane = V{} + (uint64_t(k) << 24), low = V{} + s.offset, high = low >> 32;
    PhiloxLanes<kLanes> e{even, ((even >> 32) & 0xffffffu) | plane, low, high};
    PhiloxLanes<kLanes> o{odd, ((odd >> 32) & 0xffffffu) | plane, low, high};
#pragma GCC unroll 10
    for (const auto& round : keys.at) {
      e.round(round);
      o.round(round);
    }
    const V words[4][2] = {{e.x, o.x}, {e.y, o.y}, {e.z, o.z}, {e.w, o.w}};
    for (int j = 0; j < 4; ++j) {
      const V both = (words[j][0] & 0xffffffffu) | (words[j][1] << 32);
      __builtin_memcpy(r + j * kGroups + at, &both, sizeof both);
    }
  }
}
#else
template <int kGroups>
void fill_plane(uint32_t* r, uint64_t group, uint32_t k, const DropoutStream& s, const RoundKeys&) {
#pragma GCC ivdep
  for (int l = 0; l < kGroups; ++l) {
    const Philox4 c = dropout_plane(s, group + uint64_t(l), k);
    r[l] = c.x;
    r[kGroups + l] = c.y;
    r[2 * kGroups + l] = c.z;
    r[3 * kGroups + l] = c.w;
  }
}
#endif

// keep_word for the 4 * kGroups words from 4 * group on; threshold in (0, 2^32). All lanes go
// through the planes together until every bit is decided.
template <int kGroups>
void keep_groups(uint32_t* out, uint64_t group, const DropoutStream& s, const RoundKeys& keys) {
  uint32_t below[4 * kGroups], equal[4 * kGroups], r[4 * kGroups];
  fill_plane<kGroups>(r, group, 0, s, keys);
  uint32_t t = uint32_t(s.threshold), bit = t >> 31 ? ~uint32_t(0) : 0u, open = ~uint32_t(0);
  for (int l = 0; l < 4 * kGroups; l++) {
    below[l] = ~r[l] & bit;
    equal[l] = ~(r[l] ^ bit);
  }
  t <<= 1;
  for (uint32_t k = 1; t != 0 && open != 0; k++, t <<= 1) {
    fill_plane<kGroups>(r, group, k, s, keys);
    bit = t >> 31 ? ~uint32_t(0) : 0u;
    open = 0;
    for (int l = 0; l < 4 * kGroups; l++) {
      below[l] |= equal[l] & ~r[l] & bit;
      equal[l] &= ~(r[l] ^ bit);
      open |= equal[l];
    }
  }
  for (int l = 0; l < kGroups; l++)
    for (int j = 0; j < 4; j++) out[4 * l + j] = ~below[j * kGroups + l];
}

// out[i] = keep_word(s, first_word + i) for i in [0, count).
void mask_words(uint32_t* out, int64_t first_word, int64_t count, const DropoutStream& s) {
  if (s.threshold == 0 || s.threshold >> 32) {
    for (int64_t i = 0; i < count; i++) out[i] = s.threshold == 0 ? ~uint32_t(0) : 0u;
    return;
  }
  const RoundKeys keys(s.seed);
  int64_t i = 0;
  while (i < count) {
    int64_t left = count - i, skip = (first_word + i) & 3;
    uint64_t group = uint64_t(first_word + i) >> 2;
    if (skip == 0 && left >= 4 * kKeepGroups) {
      keep_groups<kKeepGroups>(out + i, group, s, keys);
      i += 4 * kKeepGroups;
    } else if (skip == 0 && left >= 32) {
      keep_groups<8>(out + i, group, s, keys);
      i += 32;
    } else {
      uint32_t block[32];
      keep_groups<8>(block, group, s, keys);
      int64_t n = left < 32 - skip ? left : 32 - skip;
      for (int64_t j = 0; j < n; j++) out[i + j] = block[skip + j];
      i += n;
    }
  }
}

}  // namespace

void keep_words(uint32_t* out, int64_t first_word, int64_t count, DropoutStream s) {
  const int64_t from = first_word + s.first / 32;
  const uint32_t shift = uint32_t(s.first % 32);
  mask_words(out, from, count, s);
  if (shift == 0 || count == 0) return;
  uint32_t last;
  mask_words(&last, from + count, 1, s);
  for (int64_t i = 0; i < count; i++) {
    const uint32_t next = i + 1 < count ? out[i + 1] : last;
    out[i] = out[i] >> shift | next << (32 - shift);
  }
}

void step_words(uint32_t* out, uint64_t group, int64_t count, StepStream s, Draw draw) {
  const RoundKeys keys(s.seed);
  // A draw is a plane that no mask has.
  const DropoutStream stream{s.seed, uint64_t(s.parameter) << 32 | s.step, 0};
  for (int64_t done = 0; done < count; done += kKeepGroups) {
    uint32_t r[4 * kKeepGroups];
    fill_plane<kKeepGroups>(r, group + uint64_t(done), uint32_t(draw), stream, keys);
    const int64_t left = count - done, n = left < kKeepGroups ? left : kKeepGroups;
    for (int64_t l = 0; l < n; l++)
      for (int j = 0; j < 4; j++) out[4 * (done + l) + j] = r[j * kKeepGroups + l];
  }
}

ONEPASS_END
