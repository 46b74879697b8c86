// The binary operations of a fold (sum, maximum, minimum), for both backends. The loops that fold
// are in cpu/row_folds.h and cuda/folds.cuh.
#pragma once
#include "hd.h"

ONEPASS_BEGIN

struct Plus {
  template <class T>
  ONEPASS_HD T operator()(T a, T b) const {
    return a + b;
  }
};
// The larger number: a NaN in b does not win. The maximum of a row of logits; there a NaN comes
// back through exp.
struct Larger {
  template <class T>
  ONEPASS_HD T operator()(T a, T b) const {
    return b > a ? b : a;
  }
};
// The larger number, or the NaN. The maximum norm.
struct LargerOrNan {
  template <class T>
  ONEPASS_HD T operator()(T a, T b) const {
    return b > a || b != b ? b : a;
  }
};
struct Smaller {
  template <class T>
  ONEPASS_HD T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};

ONEPASS_END
