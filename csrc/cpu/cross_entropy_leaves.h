// The loops of cross entropy, by value: along one row, and across positions side by side.
#pragma once
#include "cpu/row_folds.h"
#include "kernels/cross_entropy.h"

ONEPASS_BEGIN
namespace {
namespace rows {

using cross_entropy_formula::Smoothing;

// ---- leaves along a row

// Σq and Σ q·(x − m).
template <class T>
struct Shares {
  T total, weighted;
};
template <class T, class P>
Shares<T> share_along(int64_t n, const T* x, T m, const T* weight, P probability, Smoothing<T> s) {
  T total[kLanes], weighted[kLanes];
  for (int l = 0; l < kLanes; ++l) total[l] = weighted[l] = T(0);
  for (int64_t i = 0; i < n; i += kLanes) {
    const int k = int(smaller(kLanes, n - i));
#pragma GCC ivdep
    for (int l = 0; l < k; ++l) {
      const T q = cross_entropy_formula::target(probability[i + l], weight[i + l], s);
      total[l] += q;
      weighted[l] += cross_entropy_formula::share(q, x[i + l] - m);
    }
  }
  return {fold<kLanes>(total, Plus{}), fold<kLanes>(weighted, Plus{})};
}

template <class T>
void gradient_along(int64_t n, const T* e, T factor, T* d) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) d[i] = e[i] * factor;
}
template <class T, class P>
void gradient_along(int64_t n, const T* e, T factor, T reduction, const T* weight, P probability,
                    Smoothing<T> s, T* d) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T q = cross_entropy_formula::target(probability[i], weight[i], s);
    d[i] = cross_entropy_formula::gradient(e[i], factor, reduction * q);
  }
}

// ---- leaves across positions

template <class T, class P>
void share_across(int64_t n, const T* x, const T* m, T weight, P probability, Smoothing<T> s,
                  double* total, double* weighted) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    const T q = cross_entropy_formula::target(probability[l], weight, s);
    total[l] += double(q);
    weighted[l] += double(cross_entropy_formula::share(q, x[l] - m[l]));
  }
}
template <class T>
bool any_leaves_range(int64_t n, const T* m) {
  int32_t any = 0;  // no early exit: it would not vectorise
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) any |= cross_entropy_formula::leaves_range(m[l]) ? 1 : 0;
  return any != 0;
}
// A position whose reduction is 0 is ignored: its gradient is 0, whatever its logits.
template <class T>
void gradient_across(int64_t n, const T* e, const T* factor, const T* reduction,
                     const int32_t* label, int32_t c, const T* hot, T* d) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    const T q = label[l] == c ? hot[l] : T(0);
    const T v = cross_entropy_formula::gradient(e[l], factor[l], q);
    d[l] = reduction[l] == T(0) ? T(0) : v;
  }
}
template <class T, class P>
void gradient_across(int64_t n, const T* e, const T* factor, const T* reduction,
                     const int32_t* label, int32_t c, const T* hot, T weight, P probability,
                     Smoothing<T> s, T* d) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    const T at_label = label[l] == c ? hot[l] : T(0);
    const T q = reduction[l] * cross_entropy_formula::target(probability[l], weight, s) + at_label;
    const T v = cross_entropy_formula::gradient(e[l], factor[l], q);
    d[l] = reduction[l] == T(0) ? T(0) : v;
  }
}
// The ends of a position: loss, and what its gradient is made of.
template <class T>
void finish_across(int64_t n, const T* m, const double* sum, const double* total,
                   const double* weighted, const T* picked, T* hot, const T* reduction, T* factor,
                   T* loss) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    const T all = T(total[l]) + hot[l], exps = T(sum[l]);
    const T shares = T(weighted[l]) + cross_entropy_formula::share(hot[l], picked[l] - m[l]);
    const T value = cross_entropy_formula::loss(all, exps, shares);
    loss[l] = reduction[l] == T(0) ? T(0) : value;
    factor[l] = all / exps * reduction[l];
    hot[l] = hot[l] * reduction[l];
  }
}

}  // namespace rows
}  // namespace
ONEPASS_END
