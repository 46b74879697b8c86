// For activations that select their gradient instead of multiplying by the slope, so that Inf never
// meets 0.
#pragma once
#include "core/hd.h"

ONEPASS_BEGIN

// dx, which was selected instead of multiplied, so that Inf does not meet 0; NaN if dy or x is.
template <class T>
ONEPASS_HD T selected(T dy, T x, T dx) {
  return (dy != dy) | (x != x) ? dy + x : dx;  // one comparison: either is NaN
}

ONEPASS_END
