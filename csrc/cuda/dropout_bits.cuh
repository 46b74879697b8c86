// Dropout's keep bits, drawn by the lanes of a warp together. core/philox.h defines them.
#pragma once
#include "core/philox.h"
#include "cuda/memory.cuh"

ONEPASS_BEGIN
namespace {

// keep_word of word first_word + lane, for all lanes of a warp together; first_word is a multiple
// of four. Four neighbouring lanes hold the four words of a group. Each draws a different plane of
// it and they exchange the results, so that no bit is drawn twice.
ONEPASS_DEVICE uint32_t mask_word_of_lane(const DropoutStream& s, int64_t first_word) {
  if (s.threshold >> 32) return 0;
  const int lane = lane_of(threadIdx.x), j = lane % 4;
  const uint64_t g = uint64_t(first_word + lane) >> 2;
  uint32_t below = 0, equal = ~uint32_t(0), t = uint32_t(s.threshold);
  for (uint32_t k = 0; t != 0 && warp_any(kFullWarp, equal != 0); k += 4) {
    const Philox4 c = dropout_plane(s, g, k + uint32_t(j));
    // sent[i] is for the lane whose number differs in the bits of i, as is what comes back.
    const uint32_t a = j & 1 ? c.y : c.x, b = j & 1 ? c.x : c.y;
    const uint32_t d = j & 1 ? c.w : c.z, e = j & 1 ? c.z : c.w;
    const uint32_t sent[4] = {j & 2 ? d : a, j & 2 ? e : b, j & 2 ? a : d, j & 2 ? b : e};
    uint32_t got[4];
    got[0] = sent[0];
    ONEPASS_UNROLL
    for (int i = 1; i < 4; ++i) got[i] = warp_shuffle_xor(kFullWarp, sent[i], i);
    const uint32_t p = j & 1 ? got[1] : got[0], q = j & 1 ? got[0] : got[1];
    const uint32_t u = j & 1 ? got[3] : got[2], v = j & 1 ? got[2] : got[3];
    const uint32_t plane[4] = {j & 2 ? u : p, j & 2 ? v : q, j & 2 ? p : u, j & 2 ? q : v};
    ONEPASS_UNROLL
    for (int i = 0; i < 4; ++i, t <<= 1) {  // beyond the last bit of the threshold t is 0
      const uint32_t bit = t >> 31 ? ~uint32_t(0) : 0u;
      below |= equal & ~plane[i] & bit;
      equal &= ~(plane[i] ^ bit);
    }
  }
  return ~below;
}

// The keep bits of elements 32 * (first_word + lane) ... + 31 of an array, likewise. Where s.first
// is not at the beginning of a group a warp draws twice: its own groups and, for the bits that
// follow, those after them.
ONEPASS_DEVICE uint32_t keep_word_of_lane(const DropoutStream& s, int64_t first_word) {
  const int shift = int(s.first % 128);
  first_word += s.first / 128 * 4;
  uint32_t own = 0, word = 0;
  ONEPASS_NO_UNROLL
  for (int i = 0; i < (shift == 0 ? 1 : 2); ++i) {
    own = word;
    word = mask_word_of_lane(s, first_word + 4 * i);
  }
  if (shift == 0) return word;
  const auto word_at = [&](int i) {
    const uint32_t a = warp_shuffle(kFullWarp, own, i % kWarpSize);
    const uint32_t b = warp_shuffle(kFullWarp, word, (i + kWarpSize - 4) % kWarpSize);
    return i < kWarpSize ? a : b;
  };
  const int i = lane_of(threadIdx.x) + shift / 32;
  const uint64_t low = word_at(i), high = word_at(i + 1);
  return uint32_t((high << 32 | low) >> (shift % 32));
}

// The keep bits of elements begin + 32 lane … + 31, of which `repeat`, at least two, in a row share
// a bit. Its divisions take registers: kernels that need them are apart.
template <class K, class = void>
constexpr bool kRepeats = false;
template <class K>
constexpr bool kRepeats<K, std::void_t<decltype(K::repeats)>> = K::repeats;
ONEPASS_DEVICE uint32_t repeated_word_of_lane(const DropoutStream& s, int64_t begin,
                                              int64_t repeat) {
  const int64_t first = begin / repeat / 32 & ~int64_t(3);
  const uint32_t drawn = keep_word_of_lane(s, first);  // 1024 bits; 640 are enough
  const int64_t element = begin + 32 * lane_of(threadIdx.x);
  const int64_t run = element / repeat, phase = element - run * repeat;
  const uint32_t word = warp_shuffle(kFullWarp, drawn, int(run / 32 - first));
  return repeated_bits(word >> (run % 32), phase, repeat);
}

}  // namespace
ONEPASS_END
