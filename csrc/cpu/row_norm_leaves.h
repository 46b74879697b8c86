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

// Σ g·w and Σ g·w·x̂ over a row.
template <class R, class T, class W>
struct RowPair {
  using Sum = T;
  static constexpr bool kPair = true, kDrops = false;
  Hat<T> row;
  const T *g, *x;
  W weight;
  ONEPASS_HD T value(int64_t j, int64_t c) const {
    const int64_t i = j * normalise::kSumLanes + c;
    return g[i] * weight[i];
  }
  ONEPASS_HD T times(T value, int64_t j, int64_t c) const {
    return value * R::hat(x[j * normalise::kSumLanes + c], row.mean, row.rstd, row.offset);
  }
  ONEPASS_HD RowPair next(int64_t rows) const {
    const int64_t n = rows * normalise::kSumLanes;
    if constexpr (std::is_pointer_v<W>) {
      return {row, g + n, x + n, weight + n};
    } else {
      return {row, g + n, x + n, weight};
    }
  }
};

// Adds Σg to s and Σ g·x̂ to q, column by column, of kRows rows: in the computing type, then double.
template <class R, int kRows, class T>
struct ColumnRows {
  Hat<T> row[kRows];
  const T *g[kRows], *x[kRows];
};
template <class R, int kRows, class T>
[[gnu::noinline]] void add_columns(int64_t n, double* s, double* q,
                                   const ColumnRows<R, kRows, T> rows) {
#pragma GCC ivdep
  for (int64_t c = 0; c < n; ++c) {
    T a = 0, b = 0;
#pragma GCC unroll 8
    for (int j = 0; j < kRows; ++j) {
      const T g = rows.g[j][c];
      a += g;
      b += g * R::hat(rows.x[j][c], rows.row[j].mean, rows.row[j].rstd, rows.row[j].offset);
    }
    s[c] += double(a);
    q[c] += double(b);
  }
}

template <class R, class T>
struct RowInputGradient {
  Hat<T> row;
  T level, slope;
  ONEPASS_HD T operator()(T g, T x, T weight) const {
    return R::input_gradient(g * weight, R::hat(x, row.mean, row.rstd, row.offset), row.rstd, level,
                             slope);
  }
};

}  // namespace row_norms
}  // namespace
ONEPASS_END
