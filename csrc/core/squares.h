// Sums of squares without overflow or underflow, in one fixed order: every driver that adds up the
// squares of a tensor gives the same bits.
//
// A tensor's elements are taken in blocks of kBlockElements. Within a block, element e is added to
// column e mod kColumns, and the columns are folded by halves. The sums of the blocks are added in
// the same way. So only sizes decide the order.
#pragma once
#include "core/backend.h"
#include "core/math.h"

ONEPASS_BEGIN

// Powers of two by which values are scaled to keep their squares in the range of doubles.
constexpr double kDown = 0x1p-600, kUp = 0x1p600;

// Whether no square overflowed, and none that counts vanished.
ONEPASS_HD bool is_sound(double squares) {
  return squares >= 0x1p-800 && squares < GradientRider::kNoLimit;
}

// The root of a sum of squares of which plain, large (of values · kDown) and small (of values ·
// kUp) are measures: root · power.
struct Root {
  double root, power;
};
ONEPASS_HD Root root_of(double plain, double large, double small) {
  if (is_sound(plain)) return {math::sqrt(plain), 1};
  return plain > 1 ? Root{math::sqrt(large), kUp} : Root{math::sqrt(small), kDown};
}

constexpr int kColumns = 256;

// The sums of squares of T that a norm needs: squares of floats are in the range of doubles, so
// there the plain sum is all.
template <class T>
constexpr int kMeasures = sizeof(T) == 8 ? 3 : 1;
template <int kMeasure, class T>
ONEPASS_HD double square(T v) {
  const double scaled = double(v) * (kMeasure == 0 ? 1 : kMeasure == 1 ? kDown : kUp);
  return scaled * scaled;
}
// sum + square<kMeasure>(v). The square of a float is exact, so that fusing the two changes no bit.
template <int kMeasure, class T>
ONEPASS_HD double with_square(double sum, T v) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  if constexpr (kMeasures<T> == 1) return __builtin_fma(double(v), double(v), sum);
#endif
  return sum + square<kMeasure>(v);
}
template <class T>
ONEPASS_HD double norm_of(const double* measures) {
  if constexpr (kMeasures<T> == 1) return math::sqrt(measures[0]);
  const Root r = root_of(measures[0], measures[1], measures[2]);
  return r.root * r.power;
}

ONEPASS_END
