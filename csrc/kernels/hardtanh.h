// hardtanh: y = min(max(x, min_val), max_val); y' = 1 for min_val < x < max_val, else 0, also at
// both bounds.
// Collobert, Large Scale Machine Learning, 2004.
#pragma once
#include "kernels/activation.h"
#include "kernels/selected.h"

ONEPASS_BEGIN

template <class T>
struct Hardtanh {
  static constexpr const char* name = "hardtanh";
  static constexpr auto hyper = names("min_val", "max_val");
  T min_val, max_val;
  ONEPASS_HD T forward(T x) const {
    const T above = x < min_val ? min_val : x;
    return above > max_val ? max_val : above;
  }
  ONEPASS_HD T backward(T dy, T x) const {
    return selected(dy, x, (x > min_val) & (x < max_val) ? dy : T(0));
  }
};

ONEPASS_END
