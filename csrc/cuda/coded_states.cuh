// States of 8 bits (core/codes.h) around the update of a tile, which is one block of them. A warp
// decodes the block into shared memory, where the update finds its states and leaves new ones, and
// encodes it again: the scale follows from all its elements. The codes are those of the CPU.
#pragma once
#include "core/codes.h"
#include "cuda/stages.cuh"

ONEPASS_BEGIN
namespace {

static_assert(kSmallTile == kCodeBlock);

// A lane has two runs of four neighbouring elements: words of codes, and no two lanes of a run in
// one bank of shared memory.
constexpr int kRun = 4, kRuns = int(kCodeBlock) / (kRun * kWarpSize);
ONEPASS_DEVICE int first_of_run(int run) { return (run * kWarpSize + lane_of(threadIdx.x)) * kRun; }

// `n`: elements of the block that the tensor has.
template <bool kSigned>
ONEPASS_DEVICE void decode_block(const uint8_t* codes, float scale, int n, float* states) {
  const float unit = unit_of<kSigned>(scale);
  ONEPASS_UNROLL
  for (int r = 0; r < kRuns; ++r) {
    const int first = first_of_run(r);
    uint32_t word = 0;
    if (first + kRun <= n) {
      word = *reinterpret_cast<const uint32_t*>(codes + first);
    } else {
      ONEPASS_UNROLL
      for (int i = 0; i < kRun; ++i)
        if (first + i < n) word |= uint32_t(codes[first + i]) << (8 * i);
    }
    ONEPASS_UNROLL
    for (int i = 0; i < kRun; ++i)
      states[first + i] = from_code<kSigned>(uint8_t(word >> (8 * i))) * unit;
  }
}
ONEPASS_DEVICE uint32_t larger_bits(uint32_t a, uint32_t b) { return a > b ? a : b; }
template <bool kSigned>
ONEPASS_DEVICE void encode_block(const float* states, uint32_t salt, int n, uint8_t* codes,
                                 float* scale) {
  float v[kRuns][kRun];
  uint32_t most = 0;
  ONEPASS_UNROLL
  for (int r = 0; r < kRuns; ++r) {
    ONEPASS_UNROLL
    for (int i = 0; i < kRun; ++i) {
      const int at = first_of_run(r) + i;
      v[r][i] = at < n ? states[at] : 0.0f;
      most = larger_bits(most, magnitude_bits(v[r][i]));
    }
  }
  ONEPASS_UNROLL
  for (int bits = kWarpSize / 2; bits > 0; bits /= 2)
    most = larger_bits(most, warp_shuffle_xor(kFullWarp, most, bits));
  const BlockScale<kSigned> block(most);
  if (lane_of(threadIdx.x) == 0) *scale = block.scale;
  ONEPASS_UNROLL
  for (int r = 0; r < kRuns; ++r) {
    const int first = first_of_run(r);
    uint32_t word = 0;
    ONEPASS_UNROLL
    for (int i = 0; i < kRun; ++i) {
      const uint8_t code = block.code(v[r][i], code_dither(uint32_t(first + i), salt));
      word |= uint32_t(code) << (8 * i);
    }
    if (first + kRun <= n) {
      *reinterpret_cast<uint32_t*>(codes + first) = word;
    } else {
      ONEPASS_UNROLL
      for (int i = 0; i < kRun; ++i)
        if (first + i < n) codes[first + i] = uint8_t(word >> (8 * i));
    }
  }
}

// Moves all states of an entry (the operands from kFirst on) into shared memory, or back.
enum class Way { decode, encode };
template <Way kWay, int kFirst, int kStates, class Walk>
ONEPASS_DEVICE void move_block(const Walk& walk, const uint32_t* salts, float* states) {
  const int64_t begin = walk.begin();
  const int n = int(smaller(kCodeBlock, walk.entry().size - begin));
  ONEPASS_NO_UNROLL
  for (int s = 0; s < kStates; ++s, states += kCodeBlock) {
    auto* bytes = reinterpret_cast<uint8_t*>(walk.data(kFirst + s));
    auto* scale =
        reinterpret_cast<float*>(bytes + scales_at(walk.entry().size)) + begin / kCodeBlock;
    uint8_t* codes = bytes + begin;
    const bool is_signed = walk.entry().dtype(kFirst + s) == kSignedCodes;
    if constexpr (kWay == Way::decode) {
      is_signed ? decode_block<true>(codes, *scale, n, states)
                : decode_block<false>(codes, *scale, n, states);
    } else {
      const uint32_t salt = salts[s];
      is_signed ? encode_block<true>(states, salt, n, codes, scale)
                : encode_block<false>(states, salt, n, codes, scale);
    }
  }
}

}  // namespace
ONEPASS_END
