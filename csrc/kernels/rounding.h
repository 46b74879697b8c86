// Rounds a float32 value to a 16-bit parameter or bfloat16 state: to nearest, or at random to one
// of its two neighbours. Random rounding is right on average, so small updates move the parameter
// too.
// Gupta et al., Deep Learning with Limited Numerical Precision, 2015.
#pragma once
#include "core/dtype.h"

ONEPASS_BEGIN

template <class S>
ONEPASS_HD float nearest(float x) {
  return to_float(from_float<S>(x));
}
ONEPASS_HD float nearest(float x, DType dtype) {
  return dtype == DType::f16 ? nearest<Half>(x) : nearest<BFloat16>(x);
}

// Where a step begins: at the master copy, unless the parameter is no longer its rounded value.
// Then somebody has changed the parameter, and the step begins there.
ONEPASS_HD float master_of(float master, float param, float rounded) {
  return rounded == param ? master : param;
}

// The random bits that round a state, whose average with a decay of 0.999 would otherwise stand
// still: a change of a thousandth is below half of the last place. The upper 16 bits of
//   index · kWeyl + salt
// are spread evenly over the elements. Hashes (the finaliser of Appleby's MurmurHash3) start the
// sequence elsewhere in every step, so that the bits of an element are independent of each other.
constexpr uint32_t kWeyl = 0x9E3779B9u;

ONEPASS_HD uint32_t hashed(uint32_t h) {
  h = (h ^ h >> 16) * 0x85EBCA6Bu;
  h = (h ^ h >> 13) * 0xC2B2AE35u;
  return h ^ h >> 16;
}
// `state`: which one of the parameter.
ONEPASS_HD uint32_t dither_salt(uint32_t parameter, uint32_t step, uint32_t state) {
  return hashed(hashed(hashed(step * kWeyl + state) + parameter) * kWeyl);
}
// Those of an 8-bit state (core/codes.h), of the element at `index` in its block.
ONEPASS_HD uint32_t code_dither(uint32_t index, uint32_t salt) {
  return (index * kWeyl + salt) >> 16;
}

// bfloat16 cuts off 16 bits: random ones are added to them, and the carry rounds up. A NaN that
// arithmetic has made stays one.
ONEPASS_HD BFloat16 dithered(float x, uint32_t random) {
  const uint32_t added = math::isnan(x) ? 0 : random >> 16;
  return BFloat16{uint16_t((math::to_bits(x) + added) >> 16)};
}

// bfloat16 cuts off 16 bits, float16 13 of a normal number: random ones are added to them, and the
// carry rounds up. A float16 subnormal is a multiple of 2^-24: 20 bits below that one are compared.
// Only a number that rounds to infinity to nearest becomes one.
ONEPASS_HD float stochastic_rounding(float x, DType dtype, uint32_t random) {
  const uint32_t bits = math::to_bits(x);
  const uint32_t cut = dtype == DType::f16 ? 0x1fffu : 0xffffu;
  uint32_t rounded = (bits + (random & cut)) & ~cut;
  const uint32_t most = dtype == DType::f16 ? 0x477fe000u : 0x7f7f0000u;  // the largest, below Inf
  const uint32_t sign = bits & 0x80000000u, magnitude = bits ^ sign;
  if (magnitude <= most + cut / 2 && (rounded ^ sign) > most) rounded = sign | most;
  const float a = math::abs(x);
  const int32_t fine = int32_t((a < 0x1p-14f ? a : 0.0f) * 0x1p44f);
  const float small = float((fine + int32_t(random & 0xfffffu)) >> 20) * 0x1p-24f;
  const bool subnormal = dtype == DType::f16 && a < 0x1p-14f;
  const float y = subnormal ? math::with_sign(small, x) : math::from_bits(rounded);
  return math::isfinite(x) ? y : x;
}

ONEPASS_END
