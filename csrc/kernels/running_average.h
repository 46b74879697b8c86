// An exponential average of the parameters: a += (1 - decay)·(p - a), no bias correction.
// Polyak & Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992.
#pragma once
#include "core/hd.h"

ONEPASS_BEGIN

template <class T>
ONEPASS_HD T running_average(T a, T p, T gain) {
  return a + gain * (p - a);
}

ONEPASS_END
