// A standard normal number from 32 random bits: the quantile function of the normal distribution at
// a fraction of 31 bits, and a sign.
//   z = ±√2·erfinv(1 - t), t = (m + ½)/2³¹, m the lower 31 bits, the sign the highest one
// Giles, Approximating the erfinv function, GPU Computing Gems 2, 2011 (the polynomials in single
// precision). 1 - t is never formed in the tail: w = -log(t·(2 - t)), so |z| reaches 6.3. In float
// for every computing type: the same number everywhere. Error: 4e-7 of |z| and above.
#pragma once
#include "core/math.h"

ONEPASS_BEGIN

ONEPASS_HD float gaussian(uint32_t bits) {
  const float t = float(int32_t(bits & 0x7fffffffu)) * 0x1p-31f + 0x1p-32f;
  const float w = -math::log(t * (2.0f - t));
  const bool tail = !(w < 5.0f);
  const float x = tail ? math::sqrt(w) - 3.0f : w - 2.5f;
  float p = tail ? -0.000200214257f : 2.81022636e-08f;
  p = p * x + (tail ? 0.000100950558f : 3.43273939e-07f);
  p = p * x + (tail ? 0.00134934322f : -3.5233877e-06f);
  p = p * x + (tail ? -0.00367342844f : -4.39150654e-06f);
  p = p * x + (tail ? 0.00573950773f : 0.00021858087f);
  p = p * x + (tail ? -0.0076224613f : -0.00125372503f);
  p = p * x + (tail ? 0.00943887047f : -0.00417768164f);
  p = p * x + (tail ? 1.00167406f : 0.246640727f);
  p = p * x + (tail ? 2.83297682f : 1.50140941f);
  constexpr float kRoot2 = 0x1.6a09e6p0f;
  return math::from_bits(math::to_bits(p * (1.0f - t) * kRoot2) | (bits & 0x80000000u));
}

ONEPASS_END
