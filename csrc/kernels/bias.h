// bias: z = x + bias, per channel; dx = g and dbias = Σg, g = dz.
// The drivers of norms run it too; kScales tells them that it has no mean and no scale.
#pragma once
#include "core/signature.h"

ONEPASS_BEGIN

template <class T>
struct BiasRule {
  static constexpr const char* name = "bias";
  static constexpr bool kScales = false;
  using Elements = BiasRule;
  static ONEPASS_HD T normalise(T x, Absent, Absent, T bias) { return x + bias; }
};

ONEPASS_END
