// Sums over the elements of a unit: of moments in double, of gradients in the computing type, eight
// at a time, then double. Fixed lanes and a fixed order, so that no instruction set and no number
// of threads shows in the result.
#pragma once
#include "cpu/cut.h"
#include "cpu/epilogue.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

constexpr int64_t kSumLanes = 32;  // a plane's sum is this many

// Adds kRows rows of terms to s (and, for pairs, to q), column by column.
template <int kRows, class Term>
void add_rows(int64_t n, double* s, double* q, const Term term) {
  using Sum = typename Term::Sum;
#pragma GCC ivdep
  for (int64_t c = 0; c < n; ++c) {
    Sum a = 0, b = 0;
#pragma GCC unroll 8
    for (int j = 0; j < kRows; ++j) {
      const Sum value = term.value(j, c);
      a += value;
      if constexpr (Term::kPair) b += term.times(value, j, c);
    }
    s[c] += double(a);
    if constexpr (Term::kPair) q[c] += double(b);
  }
}

// d and d², exact in double.
template <class T, class P>
struct Moment {
  using Sum = double;
  static constexpr bool kPair = true;
  const T* x;
  int64_t stride;
  P shift;
  ONEPASS_HD double value(int64_t j, int64_t c) const {
    return double(x[j * stride + c]) - double(shift[c]);
  }
  ONEPASS_HD double times(double d, int64_t, int64_t) const { return d * d; }
  ONEPASS_HD Moment next(int64_t rows) const { return {x + rows * stride, stride, shift}; }
};

// g and g·(x - mean)·rstd; g is read, or computed where that is as cheap.
template <class T, class P, class G>
struct GradientPair {
  using Sum = T;
  static constexpr bool kPair = true;
  G g;
  const T* x;
  int64_t stride;
  P mean, rstd;
  ONEPASS_HD T value(int64_t j, int64_t c) const { return g.value(j, c); }
  ONEPASS_HD T times(T value, int64_t j, int64_t c) const {
    return value * ((x[j * stride + c] - mean[c]) * rstd[c]);
  }
  ONEPASS_HD GradientPair next(int64_t rows) const {
    return {g.next(rows), x + rows * stride, stride, mean, rstd};
  }
};

template <class T, class P>
struct ReluGradient {
  EpilogueBackward<Relu<T>, T> backward;
  const T *dy, *x;
  int64_t stride;
  P mean, scale, shift;
  ONEPASS_HD T value(int64_t j, int64_t c) const {
    const int64_t i = j * stride + c;
    return backward(Absent{}, dy[i], x[i], mean[c], scale[c], shift[c]);
  }
  ONEPASS_HD ReluGradient next(int64_t rows) const {
    return {backward, dy + rows * stride, x + rows * stride, stride, mean, scale, shift};
  }
};

template <class T>
struct Gradient {
  using Sum = T;
  static constexpr bool kPair = false;
  const T* g;
  int64_t g_stride;
  ONEPASS_HD T value(int64_t j, int64_t c) const { return g[j * g_stride + c]; }
  ONEPASS_HD Gradient next(int64_t rows) const { return {g + rows * g_stride, g_stride}; }
};

template <class Term>
void add_panel(int64_t rows, int64_t n, double* s, double* q, Term term) {
  if (rows == kAdded) return add_rows<kAdded>(n, s, q, term);
  for (int64_t j = 0; j < rows; ++j) add_rows<1>(n, s, q, term.next(j));
}
template <class Term>
void add_run_in_double(int64_t n, double* s, double* q, const Term term) {
  double a[kSumLanes], b[kSumLanes];
  for (int64_t l = 0; l < kSumLanes; ++l) a[l] = b[l] = 0;
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
#pragma GCC ivdep
    for (int64_t l = 0; l < kSumLanes; ++l) {
      const double value = term.value(0, i + l);
      a[l] += value;
      if constexpr (Term::kPair) b[l] += term.times(value, 0, i + l);
    }
  }
  for (int64_t l = 0; l < n - i; ++l) {
    const double value = term.value(0, i + l);
    a[l] += value;
    if constexpr (Term::kPair) b[l] += term.times(value, 0, i + l);
  }
#pragma GCC ivdep
  for (int64_t l = 0; l < kSumLanes; ++l) {
    s[l] += a[l];
    if constexpr (Term::kPair) q[l] += b[l];
  }
}
// A run of one plane, in kSumLanes lanes.
template <class Term>
void add_run(int64_t n, double* s, double* q, Term term) {
  if constexpr (sizeof(typename Term::Sum) == 8) {
    add_run_in_double(n, s, q, term);
  } else {
    constexpr int64_t kStep = kAdded * kSumLanes;
    for (; n >= kStep; n -= kStep, term = term.next(kAdded))
      add_rows<kAdded>(kSumLanes, s, q, term);
    for (; n >= kSumLanes; n -= kSumLanes, term = term.next(1)) add_rows<1>(kSumLanes, s, q, term);
    add_rows<1>(n, s, q, term);
  }
}
ONEPASS_HD double fold_lanes(const double* lanes) {
  double sum = 0;
  for (int64_t l = 0; l < kSumLanes; ++l) sum += lanes[l];
  return sum;
}

}  // namespace normalise
}  // namespace
ONEPASS_END
