// The leaves of the row-norm driver. R: the rule. mean, rstd and offset are one value for a run; W
// is a pointer to a weight per element, or Uniform for a run of one channel.
#pragma once
#include "cpu/epilogue_leaves.h"
#include "cpu/gradient_sums.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

// The values of a row that x̂ needs.
template <class T>
struct Hat {
  T mean, rstd, offset;
};

// z + residual, with dropout behind it where nothing else follows.
template <class R, class T>
struct RowAffine {
  Hat<T> row;
  Dropout<T> dropout;
  template <class Residual>
  ONEPASS_HD T operator()(Residual residual, T x, T weight, T bias) const {
    return add_residual(R::affine(R::hat(x, row.mean, row.rstd, row.offset), weight, bias),
                        residual);
  }
  template <class Residual>
  ONEPASS_HD T operator()(Residual residual, T x, T weight, T bias, Keep keep) const {
    return dropout((*this)(residual, x, weight, bias), keep);
  }
};

// Σx² over a row.
template <class T, int64_t kLanes>
struct Squares {
  using Sum = T;
  static constexpr bool kPair = false, kDrops = false;
  const T* x;
  ONEPASS_HD T value(int64_t j, int64_t c) const {
    const T v = x[j * kLanes + c];
    return v * v;
  }
  ONEPASS_HD Squares next(int64_t rows) const { return {x + rows * kLanes}; }
};

// Σ g·w and Σ g·w·x̂ over a row.
template <class R, class T, class W, int64_t kLanes = normalise::kSumLanes>
struct RowPair {
  using Sum = T;
  static constexpr bool kPair = true, kDrops = false;
  Hat<T> row;
  const T *g, *x;
  W weight;
  ONEPASS_HD T value(int64_t j, int64_t c) const {
    const int64_t i = j * kLanes + c;
    return g[i] * weight[i];
  }
  ONEPASS_HD T times(T value, int64_t j, int64_t c) const {
    return value * R::hat(x[j * kLanes + c], row.mean, row.rstd, row.offset);
  }
  ONEPASS_HD RowPair next(int64_t rows) const {
    const int64_t n = rows * kLanes;
    if constexpr (std::is_pointer_v<W>) {
      return {row, g + n, x + n, weight + n};
    } else {
      return {row, g + n, x + n, weight};
    }
  }
};

template <class R, class T>
struct RowInputGradient {
  Hat<T> row;
  T level, slope;
  ONEPASS_HD T operator()(T g, T x, T weight) const {
    return R::input_gradient(g * weight, R::hat(x, row.mean, row.rstd, row.offset), row.rstd, level,
                             slope);
  }
};

// Rows side by side.
template <class R, class T, int kRows>
struct SideBySide {
  RowInputGradient<R, T> row[kRows];
  const T *g[kRows], *x[kRows];
  T* dx[kRows];
};
// Adds g to sums and g·x̂ to products, column by column. kApplies: dx of the same elements too.
template <bool kApplies, class R, class T, int kRows>
[[gnu::noinline]] void add_columns(int64_t n, T* sums, T* products, const T* weight,
                                   const SideBySide<R, T, kRows> rows) {
#pragma GCC ivdep
  for (int64_t c = 0; c < n; ++c) {
    T a = sums[c], b = products[c];
#pragma GCC unroll 8
    for (int j = 0; j < kRows; ++j) {
      const auto k = rows.row[j];
      const T g = rows.g[j][c];
      const T hat = R::hat(rows.x[j][c], k.row.mean, k.row.rstd, k.row.offset);
      a += g;
      b += g * hat;
      if constexpr (kApplies)
        rows.dx[j][c] = R::input_gradient(g * weight[c], hat, k.row.rstd, k.level, k.slope);
    }
    sums[c] = a;
    products[c] = b;
  }
}
template <class T>
[[gnu::noinline]] void add_to_doubles(int64_t n, double* sums, const T* terms) {
#pragma GCC ivdep
  for (int64_t c = 0; c < n; ++c) sums[c] += double(terms[c]);
}

}  // namespace row_norms
}  // namespace
ONEPASS_END
