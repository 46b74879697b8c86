// The CPU's folds over rows of classes (row_walk.h): the maximum m and Σ exp(x − m), which every
// kernel of softmax's family needs. core/folds.h has the operations; cuda/row_walk.cuh is the
// counterpart.
//
//   *_along    one run of a row, in lanes; returns its fold
//   *_across   one class of positions side by side; each position has its own fold
//   …_of_row, …_of_group   the same over all classes of an array of any dtype
#pragma once
#include "core/folds.h"
#include "cpu/row_walk.h"
#include "kernels/cross_entropy.h"

ONEPASS_BEGIN
namespace {
namespace rows {

constexpr int kLanes = 32;  // along a row

// Folds the upper half of the lanes onto the lower until one is left. One instance per width: a
// loop over widths does not vectorise.
template <int kWidth, class T, class Op>
ONEPASS_HD T fold(const T* lanes, Op op) {
  if constexpr (kWidth == 1) {
    return lanes[0];
  } else {
    T half[kWidth / 2];
    for (int l = 0; l < kWidth / 2; ++l) half[l] = op(lanes[l], lanes[l + kWidth / 2]);
    return fold<kWidth / 2>(half, op);
  }
}
// Twice as many lanes as a sum, since each waits for its previous maximum. The last block of a long
// row overlaps the one before, which does not change a maximum.
template <class T>
T max_along(int64_t n, const T* x, T most) {
  constexpr int kWide = 2 * kLanes;
  T lanes[kWide];
  for (int l = 0; l < kWide; ++l) lanes[l] = most;
  if (n < kWide) {
    for (int64_t i = 0; i < n; ++i) lanes[i] = Larger{}(lanes[i], x[i]);
  } else {
    for (int64_t i = 0; i < n; i += kWide) {
      const T* from = x + smaller(i, n - kWide);
#pragma GCC ivdep
      for (int l = 0; l < kWide; ++l) lanes[l] = Larger{}(lanes[l], from[l]);
    }
  }
  return fold<kWide>(lanes, Larger{});
}

// e = exp(x − m); returns their sum. e may be x.
template <class T>
T exp_along(int64_t n, const T* x, T m, T* e) {
  T lanes[kLanes];
  for (int l = 0; l < kLanes; ++l) lanes[l] = T(0);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma GCC ivdep
    for (int l = 0; l < kLanes; ++l) {
      const T v = cross_entropy_formula::term(x[i + l], m);
      e[i + l] = v;
      lanes[l] += v;
    }
  }
  const int rest = int(n - i);
#pragma GCC ivdep
  for (int l = 0; l < rest; ++l) {
    const T v = cross_entropy_formula::term(x[i + l], m);
    e[i + l] = v;
    lanes[l] += v;
  }
  return fold<kLanes>(lanes, Plus{});
}

template <class T>
void max_across(int64_t n, const T* x, T* m) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) m[l] = Larger{}(m[l], x[l]);
}
template <class T>
void exp_across(int64_t n, const T* x, const T* m, T* e, double* sum) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    const T v = cross_entropy_formula::term(x[l], m[l]);
    e[l] = v;
    sum[l] += double(v);
  }
}

// ---- over all classes

// The maximum of the row that starts at element `at`; scratch: kBlockElements.
template <class T>
T max_of_row(const RowArrays& a, int64_t at, T* scratch) {
  T m = *fetch<T>(a.x, a.dtype, at, 1, scratch);
  for (int64_t c = 0; c < a.classes; c += kBlockElements) {
    const int64_t n = smaller(kBlockElements, a.classes - c);
    m = max_along(n, fetch<T>(a.x, a.dtype, at + c, n, scratch), m);
  }
  return m;
}
// The maxima of n positions side by side; scratch: kPositions.
template <class T>
void max_of_group(ClassRows<T> rows, int64_t classes, int64_t n, T* m, T* scratch) {
  const T* x = rows.load(0, n, scratch);
  for (int64_t l = 0; l < n; ++l) m[l] = x[l];
  for (int64_t c = 1; c < classes; ++c) max_across(n, rows.load(c, n, scratch), m);
}

}  // namespace rows
}  // namespace
ONEPASS_END
