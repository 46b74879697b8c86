// Leaves over a tile: rows that follow each other, each so short that several are done together.
// That shares what a call costs, and hides the latencies of one row behind those of others.
//
// A row is added up in kTileLanes lanes: up to eight elements of a lane in the computing type,
// these in double. Lanes and order follow from its length alone.
#pragma once
#include "cpu/epilogue_leaves.h"
#include "cpu/moment_sums.h"
#include "cpu/row_norm_leaves.h"
#include "cpu/uniform.h"
#include "kernels/norm_range.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

constexpr int64_t kTileLanes = 8;
constexpr int64_t kTileRow = 512;  // elements of the longest row of a tile
constexpr int64_t kTileRows = 64;  // at most

// What the leaves need of each row. Weights are those of its columns, or one for the row.
template <class T>
struct TileRows {
  T mean[kTileRows], rstd[kTileRows], offset[kTileRows];
  T level[kTileRows], slope[kTileRows];  // of dx
  const T *weight[kTileRows], *bias[kTileRows];

  Hat<T> hat(int64_t r) const { return {mean[r], rstd[r], offset[r]}; }
  void set_hat(int64_t r, Hat<T> hat) {
    mean[r] = hat.mean;
    rstd[r] = hat.rstd;
    offset[r] = hat.offset;
  }
};

// Memory that a later loop touches, row by row as a leaf goes on, so that the memory works while
// the leaf computes: all at once it would wait for the lines. Backward, the leaf that adds up x and
// dy asks for dx, and the one that writes dx for the next x and dy.
struct Ahead {
  const char* first = nullptr;
  const char* second = nullptr;  // null: only one
  int64_t row_bytes = 0, rows = 0;

  template <int kWrite>
  ONEPASS_HD void ask(int64_t r) const {
    if (r >= rows) return;
    for (int64_t i = r * row_bytes; i < (r + 1) * row_bytes; i += normalise::kLine) {
      __builtin_prefetch(first + i, kWrite, 2);
      if (second) __builtin_prefetch(second + i, kWrite, 2);
    }
  }
};

// x̂ of rows from what forward kept of them; whether one of them leaves the range.
template <class R, class T>
[[gnu::noinline]] bool hats_of_rows(int64_t rows, const T* mean, const T* lost, const T* rstd,
                                    TileRows<T>* tile) {
  using Saved = typename R::Saved;
  uint32_t leaves = 0;
#pragma GCC ivdep
  for (int64_t r = 0; r < rows; ++r) {
    leaves |= leaves_range(mean[r], rstd[r], rstd[r]);
    tile->mean[r] = mean[r];
    tile->rstd[r] = rstd[r];
    tile->offset[r] = R::offset(Saved{mean[r], lost[r], rstd[r]});
  }
  return leaves != 0;
}
// Level and slope of dx from the sums of rows; whether one of these leaves the range.
template <class R, class T>
[[gnu::noinline]] bool corrections_of_rows(int64_t rows, double part, const double* s,
                                           const double* q, TileRows<T>* tile) {
  uint32_t leaves = 0;
#pragma GCC ivdep
  for (int64_t r = 0; r < rows; ++r) {
    leaves |= sum_leaves_range<T>(s[r]) | sum_leaves_range<T>(q[r]);
    const auto c = R::correction(s[r], q[r], part);
    tile->level[r] = c.level;
    tile->slope[r] = c.slope;
  }
  return leaves != 0;
}

// add(steps, i, lanes) for all elements of a row: `steps` times `lanes` of them, from i on.
template <int kSteps>
using Steps = std::integral_constant<int, kSteps>;
template <int kSteps, class F>
ONEPASS_HD void add_rest(int64_t steps, int64_t i, F add) {
  if (steps == kSteps) return add(Steps<kSteps>{}, i, kTileLanes);
  if constexpr (kSteps > 1) add_rest<kSteps - 1>(steps, i, add);
}
template <class F>
ONEPASS_HD void each_step(int64_t n, F add) {
  constexpr int kMost = normalise::kAdded;
  int64_t i = 0;
  for (; i + kMost * kTileLanes <= n; i += kMost * kTileLanes) add(Steps<kMost>{}, i, kTileLanes);
  const int64_t rest = (n - i) / kTileLanes;
  add_rest<kMost - 1>(rest, i, add);
  i += rest * kTileLanes;
  if (i < n) add(Steps<1>{}, i, n - i);
}

// The lanes of each row become one sum. Step by step over all rows: row by row GCC makes scalars of
// them.
[[maybe_unused, gnu::noinline]] void fold_rows(int64_t rows, double* lanes, double* sums) {
  static_assert(kTileLanes == 8);
  for (int64_t r = 0; r < rows; ++r) {
    double* const of_row = lanes + kTileLanes * r;
#pragma GCC ivdep
    for (int l = 0; l < 4; ++l) of_row[l] += of_row[l + 4];
  }
  for (int64_t r = 0; r < rows; ++r) {
    const double* const of_row = lanes + kTileLanes * r;
    sums[r] = (of_row[0] + of_row[2]) + (of_row[1] + of_row[3]);
  }
}
// Two sums of each row by add(row, s, q), which adds to its lanes.
template <class F>
ONEPASS_HD void sum_rows(int64_t rows, double* s, double* q, F add) {
  alignas(normalise::kLine) double lane_s[kTileRows * kTileLanes], lane_q[kTileRows * kTileLanes];
  for (int64_t i = 0; i < rows * kTileLanes; ++i) lane_s[i] = lane_q[i] = 0;
  for (int64_t r = 0; r < rows; ++r) add(r, lane_s + r * kTileLanes, lane_q + r * kTileLanes);
  fold_rows(rows, lane_s, s);
  fold_rows(rows, lane_q, q);
}

// Σd and Σd² of each row about its first element, or Σx² where R does not centre.
template <class R, class T>
[[gnu::noinline]] void moments_of_rows(int64_t rows, int64_t n, const T* x, double* s, double* q) {
  sum_rows(rows, s, q, [&](int64_t r, double* lane_s, double* lane_q) {
    const T* const row = x + r * n;
    each_step(n, [&](auto steps, int64_t i, int64_t lanes) {
      if constexpr (R::kCentres) {
        normalise::add_moment_rows<steps()>(lanes, lane_s, lane_q, row + i, kTileLanes,
                                            Uniform<T>{row[0]});
      } else {
        normalise::add_term_rows<steps()>(lanes, lane_q, lane_s, Squares<T, kTileLanes>{row + i});
      }
    });
  });
}

// z + residual. kColumns: weights of columns.
template <class R, bool kColumns, class T, class Residual>
[[gnu::noinline]] void affine_rows(int64_t rows, int64_t n, const TileRows<T>& tile,
                                   Residual residual, const T* x, T* y) {
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    const Hat<T> h = tile.hat(r);
    const T *w = tile.weight[r], *b = tile.bias[r];
    const T weight = *w, bias = *b;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
      const T z = R::affine(R::hat(x[i], h.mean, h.rstd, h.offset), kColumns ? w[i] : weight,
                            kColumns ? b[i] : bias);
      y[i] = add_residual(z, residual[r * n + i]);
    }
  }
}

// Of each row Σ g·w and Σ g·w·x̂, or with one weight for the row Σ g and Σ g·x̂.
template <class R, bool kColumns, class T>
[[gnu::noinline]] void gradient_sums_of_rows(int64_t rows, int64_t n, const TileRows<T>& tile,
                                             const T* g, const T* x, double* s, double* q,
                                             Ahead ahead = {}) {
  sum_rows(rows, s, q, [&](int64_t r, double* lane_s, double* lane_q) {
    const Hat<T> hat = tile.hat(r);
    ahead.template ask<1>(r);
    const T* const w = tile.weight[r];
    each_step(n, [&](auto steps, int64_t i, int64_t lanes) {
      const int64_t at = r * n + i;
      if constexpr (kColumns) {
        using Pair = RowPair<R, T, const T*, kTileLanes>;
        normalise::add_term_rows<steps()>(lanes, lane_s, lane_q, Pair{hat, g + at, x + at, w + i});
      } else {
        using Pair = RowPair<R, T, Uniform<T>, kTileLanes>;
        normalise::add_term_rows<steps()>(lanes, lane_s, lane_q, Pair{hat, g + at, x + at, {T(1)}});
      }
    });
  });
}

template <class R, bool kColumns, class T>
[[gnu::noinline]] void input_gradient_rows(int64_t rows, int64_t n, const TileRows<T>& tile,
                                           const T* g, const T* x, T* dx, Ahead ahead) {
  for (int64_t r = 0; r < rows; ++r, g += n, x += n, dx += n) {
    ahead.ask<0>(r);
    const RowInputGradient<R, T> k{tile.hat(r), tile.level[r], tile.slope[r]};
    const T* const w = tile.weight[r];
    const T weight = *w;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) dx[i] = k(g[i], x[i], kColumns ? w[i] : weight);
  }
}

}  // namespace row_norms
}  // namespace
ONEPASS_END
