// Random bits as a pure function of (seed, offset, index): Philox4x32-10 and the dropout mask.
//
// Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC'11).
//
// The mask, on every device: u(e) is a 32-bit binary fraction whose k-th most significant bit is
// bit (e mod 32) of word ((e div 32) mod 4) of Philox with key = seed (low word first) and counter
// = (lo32(g), hi24(g) | k << 24, lo32(offset), hi32(offset)), g = e div 128; element e is kept iff
// u(e) >= threshold. keep_word is the definition; cpu/keep_words.h has the fast form for vectors.
#pragma once
#include "hd.h"

namespace onepass {

// An element is dropped with probability threshold / 2^32, threshold = dropout_threshold(p): 0
// keeps all, 2^32 none. Element 0 of an array is element `first` of the mask, so that a slice of an
// array can get that slice of its mask; below 2^62.
struct DropoutStream {
  uint64_t seed, offset, threshold;
  int64_t first = 0;
  // On a device: null, or what a kernel reads in place of the seed, and of the offset.
  const uint64_t *seed_at = nullptr, *offset_at = nullptr;
};

}  // namespace onepass

ONEPASS_BEGIN

struct Philox4 {
  uint32_t x, y, z, w;
};

#ifndef ONEPASS_DRAWN
#define ONEPASS_DRAWN() (void)0  // the simulator of kernels counts here
#endif

ONEPASS_HD Philox4 philox4x32(Philox4 c, uint32_t k0, uint32_t k1) {
  ONEPASS_DRAWN();
  for (int round = 0; round < 10; round++) {
    uint64_t a = uint64_t(0xD2511F53u) * c.x, b = uint64_t(0xCD9E8D57u) * c.z;
    c = Philox4{uint32_t(b >> 32) ^ c.y ^ k0, uint32_t(b), uint32_t(a >> 32) ^ c.w ^ k1,
                uint32_t(a)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

ONEPASS_HD uint32_t word_of(const Philox4& c, int j) {
  return j == 0 ? c.x : j == 1 ? c.y : j == 2 ? c.z : c.w;
}

// p * 2^32 rounded to nearest, ties up; p in [0, 1].
ONEPASS_HD uint64_t dropout_threshold(double p) {
  double scaled = p * 0x1p32;  // exact
  uint64_t whole = uint64_t(scaled);
  return whole + (scaled - double(whole) >= 0.5 ? 1u : 0u);
}

// 1 / (1 - threshold / 2^32), rounded once; 0 if nothing is kept.
template <class T>
ONEPASS_HD T dropout_scale(uint64_t threshold);

template <>
ONEPASS_HD double dropout_scale<double>(uint64_t threshold) {
  uint64_t keep = (uint64_t(1) << 32) - threshold;
  return keep == 0 ? 0.0 : 0x1p32 / double(keep);
}

template <>
ONEPASS_HD float dropout_scale<float>(uint64_t threshold) {
  uint64_t keep = (uint64_t(1) << 32) - threshold;
  if (keep == 0) return 0.0f;
  // Integer quotient with a sticky bit: rounding the double quotient again could round twice.
  uint64_t one = uint64_t(1) << 63, quotient = one / keep;
  return float(quotient | (quotient * keep != one ? 1u : 0u)) * 0x1p-31f;
}

// 128 bits of plane k of group g.
ONEPASS_HD Philox4 dropout_plane(DropoutStream s, uint64_t g, uint32_t k) {
  const uint64_t seed = s.seed_at ? *s.seed_at : s.seed;
  const uint64_t offset = s.offset_at ? *s.offset_at : s.offset;
  Philox4 counter{uint32_t(g), (uint32_t(g >> 32) & 0xffffffu) | k << 24, uint32_t(offset),
                  uint32_t(offset >> 32)};
  return philox4x32(counter, uint32_t(seed), uint32_t(seed >> 32));
}

// The keep bits of elements 32 * word_index ... + 31 of the mask, element 32 * word_index in bit 0.
ONEPASS_HD uint32_t keep_word(DropoutStream s, int64_t word_index) {
  if (s.threshold >> 32) return 0;
  uint64_t g = uint64_t(word_index) >> 2;
  uint32_t j = uint32_t(word_index) & 3u;
  uint32_t below = 0, equal = ~uint32_t(0), t = uint32_t(s.threshold);
  for (uint32_t k = 0; t != 0 && equal != 0; k++, t <<= 1) {
    Philox4 c = dropout_plane(s, g, k);
    uint32_t r = word_of(c, int(j));
    uint32_t bit = t >> 31 ? ~uint32_t(0) : 0u;
    below |= equal & ~r & bit;
    equal &= ~(r ^ bit);
  }
  return ~below;
}

// The keep bits of 32 elements where each bit of the mask serves a run of `repeat`, at least two:
// `bits` are those of the mask from the first element's on, which is element `phase` of its run.
// All are bits of one word: 32 of them serve 32 · repeat elements, a multiple of 32.
ONEPASS_HD uint32_t repeated_bits(uint32_t bits, int64_t phase, int64_t repeat) {
  uint32_t word = 0;
  for (int64_t from = 0, to = repeat - phase; from < 32; from = to, to += repeat, bits >>= 1) {
    const uint32_t run = ~uint32_t(0) << from;
    word |= bits & 1 ? (to < 32 ? run & ~(~uint32_t(0) << to) : run) : 0u;
  }
  return word;
}

// The random bits of an optimizer's step: 32 for each element of a parameter, a function of the
// seed, the parameter's number, its step and the element's C-order index. `draw` keeps uses
// apart, and all from the planes of a mask, of which there are 32.
enum class Draw : uint32_t { noise = 64, rounding = 65, limit = 66 };
struct StepStream {
  uint64_t seed;
  uint32_t parameter, step;
};

// The bits of elements 4 group … + 3.
ONEPASS_HD Philox4 step_bits(StepStream s, Draw draw, uint64_t group) {
  Philox4 counter{uint32_t(group), (uint32_t(group >> 32) & 0xffffffu) | uint32_t(draw) << 24,
                  s.step, s.parameter};
  return philox4x32(counter, uint32_t(s.seed), uint32_t(s.seed >> 32));
}

ONEPASS_END
