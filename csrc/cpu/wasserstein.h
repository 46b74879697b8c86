// The Wasserstein distance of histograms, on the row walk: forwards for the distance, then
// backwards for the gradient. Until then the gradient's memory holds the signs.
#pragma once
#include "cpu/row_loss.h"
#include "kernels/wasserstein.h"

ONEPASS_BEGIN
namespace {
namespace rows {

template <class T>
struct WassersteinWork : RowLoss<T> {
  using RowLoss<T>::RowLoss;
  using RowLoss<T>::call;

  double row(int64_t r) const {
    const int64_t at = r * call.classes;
    T x_scratch[kBlockElements], t_scratch[kBlockElements], d[kBlockElements];
    double difference = 0, sum = 0;
    for (int64_t c = 0; c < call.classes; c += kBlockElements) {
      const int64_t n = smaller(kBlockElements, call.classes - c);
      const T* x = fetch<T>(call.logits, call.dtype, at + c, n, x_scratch);
      const T* t = fetch<T>(call.probabilities, call.dtype, at + c, n, t_scratch);
      for (int64_t i = 0; i < n; ++i) {
        difference = wasserstein_formula::next(difference, x[i], t[i]);
        sum += wasserstein_formula::distance(difference);
        d[i] = wasserstein_formula::direction<T>(difference);
      }
      put<T>(call.dlogits, call.dtype, at + c, n, d);
    }
    T behind = 0;
    for (int64_t end = call.classes; end > 0;) {
      const int64_t n = end % kBlockElements ? end % kBlockElements : kBlockElements;
      const T* signs = fetch<T>(call.dlogits, call.dtype, at + end - n, n, x_scratch);
      for (int64_t i = n - 1; i >= 0; --i) {
        behind += signs[i];
        d[i] = behind * this->reduction;
      }
      end -= n;
      put<T>(call.dlogits, call.dtype, at + end, n, d);
    }
    const T loss = T(sum);
    this->store_losses(r, 1, &loss);
    return sum;
  }
  double group(int64_t position, int64_t n, ClassRows<T> x, ClassRows<T> t,
               ClassRows<T> gradient) const {
    T x_scratch[kPositions], t_scratch[kPositions], d[kPositions], behind[kPositions];
    double difference[kPositions], sum[kPositions];
    for (int64_t l = 0; l < n; ++l) difference[l] = sum[l] = 0;
    for (int64_t c = 0; c < call.classes; ++c) {
      const T* from = x.load(c, n, x_scratch);
      const T* to = t.load(c, n, t_scratch);
#pragma GCC ivdep
      for (int64_t l = 0; l < n; ++l) {
        difference[l] = wasserstein_formula::next(difference[l], from[l], to[l]);
        sum[l] += wasserstein_formula::distance(difference[l]);
        d[l] = wasserstein_formula::direction<T>(difference[l]);
      }
      gradient.store(c, n, d);
    }
    for (int64_t l = 0; l < n; ++l) behind[l] = T(0);
    for (int64_t c = call.classes - 1; c >= 0; --c) {
      const T* signs = gradient.load(c, n, x_scratch);
#pragma GCC ivdep
      for (int64_t l = 0; l < n; ++l) {
        behind[l] += signs[l];
        d[l] = behind[l] * this->reduction;
      }
      gradient.store(c, n, d);
    }
    T loss[kPositions];
    double added = 0;
    for (int64_t l = 0; l < n; ++l) {
      loss[l] = T(sum[l]);
      added += sum[l];
    }
    this->store_losses(position, n, loss);
    return added;
  }
};

}  // namespace rows

void wasserstein_1d(const CrossEntropy& call) { rows::run_loss<rows::WassersteinWork>(call); }

}  // namespace
ONEPASS_END
