// nll_loss: l = −w_y·x_y of log-probabilities x and a label y, dx_c = −w_y where c = y, else 0.
// Without weight (w_y = 0) the loss is 0, whatever x. Reduction "mean" divides by Σ w_y over the
// labels that are not ignored.
#pragma once
#include "core/math.h"

ONEPASS_BEGIN
namespace nll_formula {

template <class T>
ONEPASS_HD T loss(T weight, T x) {
  return weight == T(0) ? T(0) : -weight * x;
}
template <class T>
ONEPASS_HD T gradient(T weight, T reduction) {
  return -weight * reduction;
}

}  // namespace nll_formula
ONEPASS_END
