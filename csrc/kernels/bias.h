// bias: z = x + bias, per channel; dx = g and dbias = Σg, g = dz.
// To the drivers it is a norm without a mean and a scale.
#pragma once
#include "core/signature.h"

ONEPASS_BEGIN

template <class T>
struct BiasRule {
  static constexpr const char* name = "bias";
  static constexpr bool kScales = false;
  static ONEPASS_HD T normalise(T x, Absent, Absent, T bias) { return x + bias; }
};

ONEPASS_END
