// States of 8 bits. Each block of 256 elements, in C order, shares one float32 scale: the largest
// magnitude in the block. An element's code is a float of tapered precision with the value
//   averages of squares, uint8:  P4((c + 1)/256) · scale          2^-32 to 1, never 0
//   other averages, int8:        ±P2(|c|/128) · 64/63 · scale     0, and 2^-14 to 1
// P2 and P4 are piecewise linear versions of the square and the fourth power: exact at 2^k/2 and
// 2^k/4, and linear between such points. So coding needs only shifts of a float's bits, no table. A
// number is rounded at random to one of its two neighbours, so it is right on average (between the
// smallest few codes, which are more than a factor of two apart, too large). Rounding to nearest
// would lose updates: an average with a decay of 0.999 changes by far less in a step than codes are
// apart.
//
// Why these curves: Adam's step divides by the root of an average of squares. A linear code would
// round an element whose gradient is a sixteenth of the largest one to 0, and its step would
// explode. With the fourth power the smallest root is 2^-16 of the largest, and anything smaller
// only makes the step too small. An average of gradients must represent 0 exactly: an element that
// never had a gradient must not move.
//
// Memory of a state: the codes, padded to a multiple of 64 bytes, then the scales.
// Dettmers et al., 8-bit Optimizers via Block-wise Quantization, 2021.
#pragma once
#include "core/basic.h"
#include "core/dtype.h"

namespace onepass {

constexpr int64_t kCodeBlock = 256;

// The dtypes of an Operand that is such a state; they are those of its bytes (bind/view.h). Nothing
// but what asks for them reads or writes such an operand.
constexpr DType kSignedCodes = DType(4), kUnsignedCodes = DType(8);
constexpr bool is_coded(DType t) { return t == kSignedCodes || t == kUnsignedCodes; }

constexpr int64_t code_blocks(int64_t elements) { return (elements + kCodeBlock - 1) / kCodeBlock; }
constexpr int64_t scales_at(int64_t elements) { return (elements + 63) / 64 * 64; }
constexpr int64_t coded_bytes(int64_t elements) {
  return scales_at(elements) + code_blocks(elements) * int64_t(sizeof(float));
}

}  // namespace onepass

ONEPASS_BEGIN

// Constants of the bits of floats. From 1 to 2 they grow by kOctave.
constexpr uint32_t kBitsOfOne = 0x3f800000u, kOctave = 1u << 23;

// A code times 2 (signed) or as it is (unsigned), for a scale of 1. With y = c/128 the bits of
// P2(y) are twice those of y less those of 1; P4 likewise.
template <bool kSigned>
ONEPASS_HD float from_code(uint8_t code) {
  if constexpr (kSigned) {
    const float c = float(int32_t(int8_t(code)));
    const uint32_t bits = math::to_bits(c);
    const int32_t square = int32_t(2 * bits - (kBitsOfOne + 13 * kOctave));  // below 0 for c = 0
    return math::from_bits(uint32_t(square > 0 ? square : 0) | (bits & 0x80000000u));
  } else {
    const float c = float(int32_t(code) + 1);
    return math::from_bits(4 * math::to_bits(c) - (3 * kBitsOfOne + 32 * kOctave));
  }
}
// The factor of from_code.
template <bool kSigned>
ONEPASS_HD float unit_of(float scale) {
  return kSigned ? scale * float(32.0 / 63.0) : scale;
}

// The factor of a number before it becomes a code: 16/scale, which is normal. For a signed code it
// is a little less, so that the largest number is not rounded beyond the last code.
template <bool kSigned>
ONEPASS_HD float inverse_of(float scale) {
  return (kSigned ? 0x1.f7ffep3f : 16.0f) / scale;
}
// The inverses of P2 and P4: the bits of y·2^23 and y·2^24, y = c/128 and (c + 1)/256, are a half
// and a quarter of those of a number that is 16 times as large as P2(y), P4(y), plus these.
constexpr uint32_t kRootSigned = kBitsOfOne / 2 - 2 * kOctave + 23 * kOctave;
constexpr uint32_t kRootUnsigned = kBitsOfOne / 4 * 3 - kOctave + 24 * kOctave;
// `random` has 16 bits.
template <bool kSigned>
ONEPASS_HD uint8_t to_code(float scaled, uint32_t random) {
  const uint32_t bits = math::to_bits(scaled);
  if constexpr (kSigned) {
    // The shift leaves a second sign.
    const uint32_t y = (uint32_t(int32_t(bits) >> 1) & 0xbfffffffu) + kRootSigned;
    return uint8_t((uint32_t(int32_t(math::from_bits(y))) + random) >> 16);
  } else {
    const int32_t fixed = int32_t(math::from_bits((bits >> 2) + kRootUnsigned));
    const int32_t code = int32_t((uint32_t(fixed) + random) >> 16);
    return uint8_t((code > 1 ? code : 1) - 1);
  }
}

// A block whose largest number is below kLeastScale counts as zero; one with a number that is not
// finite becomes NaN.
constexpr float kLeastScale = 0x1p-120f;
ONEPASS_HD float scale_of(uint32_t largest_bits) {
  const float largest = math::from_bits(largest_bits);
  if (largest_bits >= math::Format<float>::kInf) return math::quiet_nan<float>();
  return largest < kLeastScale ? 0.0f : largest;
}

// Follows from the largest magnitude of a block: its scale, and how its numbers become codes.
template <bool kSigned>
struct BlockScale {
  float scale, inverse;
  bool any;  // else all codes are 0

  ONEPASS_HD explicit BlockScale(uint32_t largest_bits)
      : scale(scale_of(largest_bits)),
        inverse(scale > 0 ? inverse_of<kSigned>(scale) : 0.0f),
        any(scale > 0) {}
  ONEPASS_HD uint8_t code(float v, uint32_t random) const {
    const uint8_t code = to_code<kSigned>(any ? v * inverse : 0.0f, random);
    return any ? code : uint8_t(0);
  }
};
ONEPASS_HD uint32_t magnitude_bits(float v) { return math::to_bits(v) & 0x7fffffffu; }

ONEPASS_END
