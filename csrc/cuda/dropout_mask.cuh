// The keep bits of dropout as an array: each warp draws 1024 and writes them as bits or bytes.
#pragma once
#include "core/backend.h"
#include "cuda/dropout_bits.cuh"
#include "cuda/launch.cuh"

ONEPASS_BEGIN
namespace {
namespace mask {

constexpr int64_t kBits = 32 * kWarpSize;  // of a warp

// Bits 0 to 3 as bytes of 0 and 1.
ONEPASS_DEVICE uint32_t bytes_of(uint32_t bits) { return (bits & 0xf) * 0x00204081u & 0x01010101u; }

// 32 elements, of a lane. Bits past the last element of the mask stay 0.
ONEPASS_DEVICE void write_bits(const DropoutMask& call, int64_t element, uint32_t word) {
  const int64_t left = call.elements - element;
  uint8_t* const out = call.out + element / 8;
  if (left >= 32 && reinterpret_cast<uintptr_t>(out) % 4 == 0) {
    *reinterpret_cast<uint32_t*>(out) = word;
    return;
  }
  if (left < 32) word &= left > 0 ? ~(~uint32_t(0) << left) : 0u;
  ONEPASS_UNROLL
  for (int b = 0; b < 4; ++b)
    if (8 * b < left) out[b] = uint8_t(word >> (8 * b));
}

// 1024 elements, of a warp together, whose lanes write next to each other: 16 elements at a time,
// or single ones.
ONEPASS_DEVICE void write_bytes(const DropoutMask& call, int64_t begin, uint32_t word) {
  const int lane = lane_of(threadIdx.x);
  uint8_t* const out = call.out + begin;
  const int64_t left = call.elements - begin;
  if (left >= kBits && reinterpret_cast<uintptr_t>(out) % 16 == 0) {
    ONEPASS_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int at = 16 * (lane + kWarpSize * i);
      const uint32_t bits = warp_shuffle(kFullWarp, word, at / 32) >> (at % 32);
      const Pack<uint32_t> bytes{
          {bytes_of(bits), bytes_of(bits >> 4), bytes_of(bits >> 8), bytes_of(bits >> 12)}};
      store_pack(reinterpret_cast<uint32_t*>(out + at), bytes);
    }
    return;
  }
  ONEPASS_NO_UNROLL
  for (int i = 0; i < 32; ++i) {
    const uint32_t bits = warp_shuffle(kFullWarp, word, i);
    const int at = 32 * i + lane;
    if (at < left) out[at] = uint8_t(bits >> lane & 1);
  }
}

template <bool kPacked, bool kAligned>
__global__ void __launch_bounds__(kThreads, 2)
    dropout_mask_kernel(const __grid_constant__ DropoutMask call) {
  const int64_t step = int64_t(gridDim.x) * kWarps * kBits;
  int64_t begin = (int64_t(blockIdx.x) * kWarps + warp_of(threadIdx.x)) * kBits;
  ONEPASS_NO_UNROLL
  for (; begin < call.elements; begin += step) {
    const uint32_t word = kAligned ? aligned_word_of_lane(call.random, begin / 32)
                                   : keep_word_of_lane(call.random, begin / 32);
    if constexpr (kPacked) {
      write_bits(call, begin + 32 * lane_of(threadIdx.x), word);
    } else {
      write_bytes(call, begin, word);
    }
  }
}

}  // namespace mask

template <bool kPacked>
void draw_mask(const DropoutMask& call) {
  if (call.elements == 0) return;
  using namespace mask;
  const auto kernel = begins_with_group(call.random) ? &dropout_mask_kernel<kPacked, true>
                                                     : &dropout_mask_kernel<kPacked, false>;
  start(kernel, persistent_blocks(kernel, ceil_div(call.elements, kWarps * mask::kBits)),
        static_cast<cudaStream_t>(call.stream), call);
}
inline void dropout_mask(const DropoutMask& call) {
  call.packed ? draw_mask<true>(call) : draw_mask<false>(call);
}

}  // namespace
ONEPASS_END
