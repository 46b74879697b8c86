// The proximal step of an L1 penalty: sign(p)·max(|p| - threshold, 0), threshold = lr·l1. It leaves
// exact zeros. Daubechies, Defrise, De Mol, An iterative thresholding algorithm, 2004.
#pragma once
#include "core/math.h"

ONEPASS_BEGIN

template <class T>
ONEPASS_HD T soft_threshold(T p, T threshold) {
  const T rest = math::abs(p) - threshold;
  return math::with_sign(rest < T(0) ? T(0) : rest, p);
}

ONEPASS_END
