// The Work of cross entropy on the row walk: loss and gradient in one visit, while the logits are
// in cache. exp(x − m) waits in dlogits for the gradient. 16-bit storage could not hold it, so
// there it is computed again. Losses are added in double.
#pragma once
#include "cpu/cross_entropy_leaves.h"
#include "cpu/row_loss.h"
#include "cpu/uniform.h"

ONEPASS_BEGIN
namespace {
namespace rows {

template <class T>
struct CrossEntropyWork : RowLoss<T> {
  using RowLoss<T>::call;
  using RowLoss<T>::arrays;
  using RowLoss<T>::reduction;
  using RowLoss<T>::class_weight;
  using RowLoss<T>::ignored;
  using RowLoss<T>::store_losses;
  using RowLoss<T>::clear_row;
  Smoothing<T> smoothing;
  bool plain;  // labels without smoothing: q is zero but at the label

  explicit CrossEntropyWork(const CrossEntropy& c)
      : RowLoss<T>(c),
        smoothing(Smoothing<T>::of(c.label_smoothing, c.classes)),
        plain(c.labels && c.label_smoothing == 0) {}

  const T* class_weights(int64_t c, int64_t n, T* scratch) const {
    if (call.weight.data && same_dtype<T>(call.weight.dtype))
      return static_cast<const T*>(call.weight.data) + c;
    double wide[kBlockElements];
    load_channels(call.weight, c, n, 1, wide);
    for (int64_t i = 0; i < n; ++i) scratch[i] = T(wide[i]);
    return scratch;
  }

  // -- one long row; e waits in dlogits where that can hold it

  double row(int64_t r) const {
    const int64_t classes = call.classes, at = r * classes;
    T x_scratch[kBlockElements], e_scratch[kBlockElements];
    if (ignored(r)) {
      clear_row(at, e_scratch);
      const T zero = 0;
      store_losses(r, 1, &zero);
      return 0;
    }
    const T m = max_of_row(arrays, at, x_scratch);
    T hot = 0, picked = 0;
    if (call.labels) {
      hot = smoothing.hot * class_weight(call.labels[r]);
      picked = *fetch<T>(call.logits, call.dtype, at + call.labels[r], 1, x_scratch);
    }
    Shares<T> shares{hot, cross_entropy_formula::share(hot, picked - m)};
    const bool far = cross_entropy_formula::leaves_range(m);
    const double halves = far ? half_shares(r, m, hot, picked) : 0;
    const bool keeps = call.dlogits && same_dtype<T>(call.dtype);
    double sums = 0;  // of blocks
    for (int64_t c = 0; c < classes; c += kBlockElements) {
      const int64_t n = smaller(kBlockElements, classes - c);
      const T* x = fetch<T>(call.logits, call.dtype, at + c, n, x_scratch);
      if (!plain) add_shares(at, c, n, x, m, &shares);
      sums += exp_along(n, x, m, keeps ? static_cast<T*>(call.dlogits) + at + c : e_scratch);
    }
    const T sum = T(sums);
    if (call.dlogits) {
      const T factor = shares.total / sum * reduction;
      for (int64_t c = 0; c < classes; c += kBlockElements) {
        const int64_t n = smaller(kBlockElements, classes - c);
        T* e = keeps ? static_cast<T*>(call.dlogits) + at + c : e_scratch;
        if (!keeps && classes > kBlockElements)
          exp_along(n, fetch<T>(call.logits, call.dtype, at + c, n, x_scratch), m, e);
        row_gradient(at, c, n, factor, e);
        const int64_t label = call.labels ? call.labels[r] - c : -1;
        if (label >= 0 && label < n) e[label] -= hot * reduction;
        put<T>(call.dlogits, call.dtype, at + c, n, e);
      }
    }
    if (far) return far_loss(r, shares.total, sum, halves);
    const T loss = cross_entropy_formula::loss(shares.total, sum, shares.weighted);
    store_losses(r, 1, &loss);
    return double(loss);
  }
  [[gnu::noinline]] double far_loss(int64_t r, T total, T sum, double halves) const {
    const double loss = cross_entropy_formula::loss_of_halves(total, sum, halves);
    const T stored = T(loss);
    store_losses(r, 1, &stored);
    return loss;
  }
  // For a position whose m leaves the range. Reads the logits: dlogits must not yet replace them.
  [[gnu::noinline]] double half_shares(int64_t position, T m, T hot, T picked) const {
    double sum = cross_entropy_formula::half_share(hot, picked, m);
    const int64_t o = position / call.inner, i = position % call.inner;
    for (int64_t c = 0; c < call.classes && !plain; ++c) {
      const int64_t at = (o * call.classes + c) * call.inner + i;
      T x, p = 0;
      if (call.probabilities) p = *fetch<T>(call.probabilities, call.dtype, at, 1, &p);
      const T q = cross_entropy_formula::target(p, class_weight(c), smoothing);
      sum += cross_entropy_formula::half_share(q, *fetch<T>(call.logits, call.dtype, at, 1, &x), m);
    }
    return sum;
  }
  void add_shares(int64_t at, int64_t c, int64_t n, const T* x, T m, Shares<T>* shares) const {
    T w_scratch[kBlockElements], p_scratch[kBlockElements];
    const T* weight = class_weights(c, n, w_scratch);
    Shares<T> more;
    if (call.probabilities) {
      const T* p = fetch<T>(call.probabilities, call.dtype, at + c, n, p_scratch);
      more = share_along(n, x, m, weight, p, smoothing);
    } else {
      more = share_along(n, x, m, weight, Uniform<T>{T(0)}, smoothing);
    }
    shares->total += more.total;
    shares->weighted += more.weighted;
  }
  void row_gradient(int64_t at, int64_t c, int64_t n, T factor, T* e) const {
    if (plain) return gradient_along(n, e, factor, e);
    T w_scratch[kBlockElements], p_scratch[kBlockElements];
    const T* weight = class_weights(c, n, w_scratch);
    if (call.probabilities) {
      const T* p = fetch<T>(call.probabilities, call.dtype, at + c, n, p_scratch);
      gradient_along(n, e, factor, reduction, weight, p, smoothing, e);
    } else {
      gradient_along(n, e, factor, reduction, weight, Uniform<T>{T(0)}, smoothing, e);
    }
  }

  // -- positions side by side, n <= kPositions

  double group(int64_t position, int64_t n, ClassRows<T> logits, ClassRows<T> probabilities,
               ClassRows<T> dlogits) const {
    double sum[kPositions], total[kPositions], weighted[kPositions];
    T m[kPositions], hot[kPositions], picked[kPositions], keep[kPositions];
    T factor[kPositions], loss[kPositions];
    T x_scratch[kPositions], e_scratch[kPositions], p_scratch[kPositions];
    int32_t label[kPositions];
    for (int64_t l = 0; l < n; ++l) {
      sum[l] = total[l] = weighted[l] = 0;
      hot[l] = picked[l] = T(0);
      keep[l] = ignored(position + l) ? T(0) : reduction;
      label[l] = -1;
    }
    if (call.labels) {
      for (int64_t l = 0; l < n; ++l) {
        if (ignored(position + l)) continue;
        const int64_t y = call.labels[position + l];
        label[l] = int32_t(y);
        hot[l] = smoothing.hot * class_weight(y);
        picked[l] = *fetch<T>(logits.data, logits.dtype, y * logits.stride + l, 1, x_scratch);
      }
    }
    max_of_group(logits, call.classes, n, m, x_scratch);
    const bool any_far = any_leaves_range(n, m);
    double halves[kPositions];
    if (any_far) half_shares_of_group(position, n, m, hot, picked, halves);

    const bool keeps = dlogits.data && same_dtype<T>(dlogits.dtype);
    for (int64_t c = 0; c < call.classes; ++c) {
      const T* x = logits.load(c, n, x_scratch);
      if (!plain && call.probabilities) {
        const T* p = probabilities.load(c, n, p_scratch);
        share_across(n, x, m, class_weight(c), p, smoothing, total, weighted);
      } else if (!plain) {
        const Uniform<T> none{T(0)};
        share_across(n, x, m, class_weight(c), none, smoothing, total, weighted);
      }
      exp_across(n, x, m, keeps ? dlogits.place(c, e_scratch) : e_scratch, sum);
    }
    if (any_far) far_losses(n, sum, total, hot, halves);
    finish_across(n, m, sum, total, weighted, picked, hot, keep, factor, loss);
    if (dlogits.data) {
      for (int64_t c = 0; c < call.classes; ++c) {
        T* d = dlogits.place(c, e_scratch);
        if (!keeps) exp_across(n, logits.load(c, n, x_scratch), m, d, sum);
        if (plain) {
          gradient_across(n, d, factor, keep, label, int32_t(c), hot, d);
        } else if (call.probabilities) {
          const T* p = probabilities.load(c, n, p_scratch);
          gradient_across(n, d, factor, keep, label, int32_t(c), hot, class_weight(c), p, smoothing,
                          d);
        } else {
          const Uniform<T> none{T(0)};
          gradient_across(n, d, factor, keep, label, int32_t(c), hot, class_weight(c), none,
                          smoothing, d);
        }
        dlogits.store(c, n, d);
      }
    }
    if (any_far) return add_far_losses(position, n, m, keep, halves, loss);
    store_losses(position, n, loss);
    double added = 0;
    for (int64_t l = 0; l < n; ++l) added += double(loss[l]);
    return added;
  }

  // The same of groups in which an m leaves the range. `halves` holds sums of shares, then losses.
  [[gnu::noinline]] void half_shares_of_group(int64_t position, int64_t n, const T* m, const T* hot,
                                              const T* picked, double* halves) const {
    for (int64_t l = 0; l < n; ++l) halves[l] = half_shares(position + l, m[l], hot[l], picked[l]);
  }
  [[gnu::noinline]] void far_losses(int64_t n, const double* sum, const double* total, const T* hot,
                                    double* halves) const {
    for (int64_t l = 0; l < n; ++l)
      halves[l] = cross_entropy_formula::loss_of_halves(T(total[l]) + hot[l], T(sum[l]), halves[l]);
  }
  [[gnu::noinline]] double add_far_losses(int64_t position, int64_t n, const T* m, const T* keep,
                                          const double* losses, T* loss) const {
    double added = 0;
    for (int64_t l = 0; l < n; ++l) {
      const bool far = keep[l] != T(0) && cross_entropy_formula::leaves_range(m[l]);
      if (far) loss[l] = T(losses[l]);
      added += far ? losses[l] : double(loss[l]);
    }
    store_losses(position, n, loss);
    return added;
  }
};

}  // namespace rows
}  // namespace
ONEPASS_END
