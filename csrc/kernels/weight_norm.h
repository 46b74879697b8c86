// weight_norm: w = g·v/‖v‖ for each row v of a weight, g one value a row. Gradients, with v̂ =
// v/‖v‖:
//   dg = Σ dw·v̂;  dv = (g·dw - v̂·Σ g·dw·v̂)/‖v‖
// Salimans & Kingma, Weight Normalization, 2016.
//
// It is an RMS norm by the sum in place of the mean, without eps: a row of zeros gives NaN, as in
// PyTorch.
#pragma once
#include "kernels/rms_norm.h"

ONEPASS_BEGIN

template <class T>
struct WeightNormRule : RmsNormRule<T> {
  static constexpr const char* name = "weight_norm";
  using Kernels = RmsNormRule<T>;  // which do its work: it differs in part() alone
  static ONEPASS_HD double part(double) { return 1; }
};

ONEPASS_END
