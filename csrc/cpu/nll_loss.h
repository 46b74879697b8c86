// The negative log-likelihood on the row walk.
#pragma once
#include "cpu/row_loss.h"
#include "kernels/nll_loss.h"

ONEPASS_BEGIN
namespace {
namespace rows {

template <class T>
struct NllWork : RowLoss<T> {
  using RowLoss<T>::RowLoss;
  using RowLoss<T>::call;

  // Only the element at the label is read.
  double row(int64_t r) const {
    const int64_t at = r * call.classes;
    T scratch[kBlockElements], loss = 0, gradient = 0;
    const bool counts = !this->ignored(r);
    if (counts) {
      const T w = this->class_weight(call.labels[r]);
      loss =
          nll_formula::loss(w, *fetch<T>(call.logits, call.dtype, at + call.labels[r], 1, scratch));
      gradient = nll_formula::gradient(w, this->reduction);
    }
    this->clear_row(at, scratch);
    if (counts && call.dlogits) put<T>(call.dlogits, call.dtype, at + call.labels[r], 1, &gradient);
    this->store_losses(r, 1, &loss);
    return double(loss);
  }
  double group(int64_t position, int64_t n, ClassRows<T> x, ClassRows<T>,
               ClassRows<T> gradient) const {
    T loss[kPositions], x_scratch[kPositions], d_scratch[kPositions];
    for (int64_t l = 0; l < n; ++l) loss[l] = T(0);
    const int64_t* labels = call.labels + position;
    for (int64_t c = 0; c < call.classes; ++c) {
      const T w = this->class_weight(c);
      const T hot = c == call.ignore_index ? T(0) : nll_formula::gradient(w, this->reduction);
      const T* values = x.load(c, n, x_scratch);
      T* d = d_scratch;
      for (int64_t l = 0; l < n; ++l) {
        const bool is_label = labels[l] == c && c != call.ignore_index;
        loss[l] = is_label ? nll_formula::loss(w, values[l]) : loss[l];
        d[l] = is_label ? hot : T(0);
      }
      if (call.dlogits) gradient.store(c, n, d);
    }
    this->store_losses(position, n, loss);
    double added = 0;
    for (int64_t l = 0; l < n; ++l) added += double(loss[l]);
    return added;
  }
};

}  // namespace rows

void nll_loss(const CrossEntropy& call) { rows::run_loss<rows::NllWork>(call); }

}  // namespace
ONEPASS_END
