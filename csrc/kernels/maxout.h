// maxout: y = max over `pieces` neighbouring channels; dx = dy at the first of the largest, else 0.
// A NaN counts as the largest. Goodfellow, Warde-Farley, Mirza, Courville & Bengio, Maxout
// Networks, 2013.
#pragma once
#include "core/hd.h"

ONEPASS_BEGIN

// The largest piece so far, and its index.
template <class T>
struct MaxoutPick {
  T most;
  int32_t piece;
  ONEPASS_HD void take(T x, int32_t i) {
    const bool larger = (x > most) | ((x != x) & (most == most));
    most = larger ? x : most;
    piece = larger ? i : piece;
  }
};

ONEPASS_END
