// erf.
#pragma once
#include "exp.h"

ONEPASS_BEGIN
namespace math {

// erf(x) / x - 1 in z = x^2 <= 1.
ONEPASS_HD float erf_small(float z) {
  return poly(z, 0x1.06eba8p-3f, -0x1.81273ep-2f, 0x1.ce2cf2p-4f, -0x1.b7f88cp-6f, 0x1.540172p-8f,
              -0x1.a3d812p-11f, 0x1.4917a4p-14f);
}

ONEPASS_HD double erf_small(double z) {
  return poly(z, 0x1.06eba8214db68p-3, -0x1.812746b0379b2p-2, 0x1.ce2f21a0408d1p-4,
              -0x1.b82ce311ee09bp-6, 0x1.565bccf7e2856p-8, -0x1.c02db0149d904p-11,
              0x1.f9a2b75531772p-14, -0x1.f4ca204c771c5p-17, 0x1.b97e44280cfb9p-20,
              -0x1.5bfe76384472p-23, 0x1.d6e3ddfeb1f49p-27, -0x1.ab15c51d2ebebp-31);
}

// log(erfc(t)) on [1, 4] and [1, 6], each weighted by erfc.
ONEPASS_HD float log_erfc(float t) {
  return poly(t, -0x1.47a612p-12f, -0x1.209054p0f, -0x1.46a35ap-1f, -0x1.a6eff8p-4f, 0x1.66ea6ap-6f,
              -0x1.847f84p-9f, 0x1.8a347ep-13f);
}

ONEPASS_HD double log_erfc(double t) {
  return poly(t, -0x1.01bb5cc33871cp-21, -0x1.20dd235f0f167p0, -0x1.45f608d265781p-1,
              -0x1.a4aee46d0ddefp-4, 0x1.3735232c85b46p-6, 0x1.a858338702c85p-12,
              -0x1.f4aa8983d88b4p-10, 0x1.9188a1f4411e6p-11, -0x1.1504749501a7ap-13,
              -0x1.6c3ffa9898f5dp-16, 0x1.883a7a15fc4a3p-16, -0x1.2874aed0fa29dp-17,
              0x1.23ea55b0c9638p-19, -0x1.984e14654ac9ep-22, 0x1.96881cd8ac915p-25,
              -0x1.13ec2c604f571p-28, 0x1.cb83d0fecef9fp-33, -0x1.62de52f16acc6p-38);
}

// x + x S(x^2) up to 1, 1 - exp(log erfc |x|) beyond. Error: 1.20, 1.40 ulp.
template <class T>
ONEPASS_HD T erf(T x) {
  using F = Format<T>;
  T a = abs(x), t = a > F::kErfMax ? F::kErfMax : a;
  Reduced<T> e = reduce(log_erfc(t));
  T scale = from_bits((e.shifted - (F::kShiftBits - F::kBias)) << F::kMantissa);
  T large = T(1) - exp_reduced(e) * scale;
  T small = x + x * erf_small(x * x);
  return a > T(1) ? copysign(large, x) : small;
}

}  // namespace math
ONEPASS_END
