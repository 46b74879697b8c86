// max_pool2d: y = the largest element of a window, by its taps in their order, and which tap it is;
// dx = the sum of the dy of the windows whose largest element it is. Of equal elements the first is
// the largest. A NaN is larger than all others, and of several the first has the gradient; PyTorch,
// whose values are the same, gives it to the last in C order.
#pragma once
#include "core/hd.h"

ONEPASS_BEGIN

// The largest element so far, and its tap; -1: there was none, as where a window has padding alone.
template <class T>
struct MaxPoolPick {
  T most = -T(__builtin_huge_val()), tap = T(-1);

  ONEPASS_HD void take(T x, T i) { keep((tap < T(0)) | exceeds(x), x, i); }
  // The same where there was one.
  ONEPASS_HD void take_next(T x, T i) { keep(exceeds(x), x, i); }

 private:
  // Not with | and &: of several in a row GCC makes no vectors.
  ONEPASS_HD bool exceeds(T x) const { return x > most || (x != x && most == most); }
  ONEPASS_HD void keep(bool larger, T x, T i) {
    most = larger ? x : most;
    tap = larger ? i : tap;
  }
};

// What tap i of a window adds to dx.
template <class T>
ONEPASS_HD T max_pool_gradient(T dy, T picked, T i) {
  return picked == i ? dy : T(0);
}

ONEPASS_END
