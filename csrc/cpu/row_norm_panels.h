// Rows of one group backward, a panel of them at once, with the sums of their columns. First each
// row's own sums: panel() takes them row by row, tile_panel() as one tile. Then dx and the columns'
// sums in one loop, apply(), over runs of the columns of kSide rows at a time; apply_panel() calls
// it through apply_again(), which fetches x and g of each run once more.
#pragma once
#include "cpu/row_norm_tile_backward.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

template <class Call>
struct PanelBackward {
  using R = typename Call::R;
  using T = typename Call::T;
  using State = RowState<R, T>;

  const Call& call;
  const RowBackward<Call> by_row{call};
  const TileBackward<Call> by_tile{call};

  // The sums of columns of a panel, in the computing type.
  struct ColumnSums {
    T sums[kPanelColumns], products[kPanelColumns];

    explicit ColumnSums(int64_t n) {
      for (int64_t c = 0; c < n; ++c) sums[c] = products[c] = T(0);
    }
    void add_to(int64_t n, double* s, double* q) const {
      add_to_doubles(n, s, sums);
      add_to_doubles(n, q, products);
    }
  };
  // Runs of n columns of kRows rows, the first at element at[j], with their g and x.
  template <int kRows>
  void apply(const State* states, const int64_t* at, int64_t n, const T* const* g,
             const T* const* x, const T* weight, ColumnSums* sums) const {
    T scratch[kRows][kPanelColumns];
    SideBySide<R, T, kRows> rows;
    bool plain = call.norm.dx;
    for (int j = 0; j < kRows; ++j) {
      rows.row[j] = {states[j].hat, states[j].level, states[j].slope};
      rows.g[j] = g[j];
      rows.x[j] = x[j];
      rows.dx[j] = call.direct ? static_cast<T*>(call.norm.dx) + at[j] : scratch[j];
      plain = plain && states[j].g_scale == T(1);
    }
    if (plain) {
      call.flushed([&] { add_columns<true>(n, sums->sums, sums->products, weight, rows); });
      for (int j = 0; j < kRows; ++j) put<T>(call.norm.dx, call.norm.dtype, at[j], n, rows.dx[j]);
    } else {
      call.flushed([&] { add_columns<false>(n, sums->sums, sums->products, weight, rows); });
      if (!call.norm.dx) return;
      for (int j = 0; j < kRows; ++j)
        by_row.write(states[j], at[j], n, g[j], x[j], weight, scratch[j]);
    }
  }
  // The same of columns [c, c + n) of rows of a group, of which the first is `row`.
  template <int kRows>
  void apply_again(int64_t row, const State* states, int64_t c, int64_t n, KeepBits& bits,
                   ColumnSums* sums) const {
    T g_scratch[kRows][kPanelColumns], x_scratch[kRows][kPanelColumns];
    const int64_t column = call.group_of(row) * call.cut.length + c;
    const T *weight = call.weights + column, *bias = call.biases + column;
    const T *g[kRows], *x[kRows];
    int64_t at[kRows];
    for (int j = 0; j < kRows; ++j) {
      at[j] = call.begin_of(row + j * call.norm.groups) + c;
      x[j] = call.x_of(states[j], at[j], n, x_scratch[j]);
      g[j] =
          by_row.gradient_again(states[j], at[j], n, at[j] + n, weight, bias, bits, g_scratch[j]);
    }
    apply<kRows>(states, at, n, g, x, weight, sums);
  }
  void apply_panel(int64_t row, int64_t rows, const State* states, KeepBits& bits, double* s,
                   double* q) const {
    for (int64_t c = 0; c < call.cut.length; c += kPanelColumns) {
      const int64_t n = smaller(kPanelColumns, call.cut.length - c);
      ColumnSums sums(n);
      int64_t j = 0;
      for (; j + kSide <= rows; j += kSide)
        apply_again<kSide>(row + j * call.norm.groups, states + j, c, n, bits, &sums);
      for (; j < rows; ++j)
        apply_again<1>(row + j * call.norm.groups, states + j, c, n, bits, &sums);
      sums.add_to(n, s + c, q + c);
    }
  }
  void panel(int64_t row, int64_t rows, KeepBits& bits, KeepBits& again, double* s,
             double* q) const {
    State states[kPanelRows];
    for (int64_t j = 0; j < rows; ++j) {
      const int64_t r = row + j * call.norm.groups;
      states[j] = by_row.prepare(r, call.begin_of(r + 1), bits);
    }
    apply_panel(row, rows, states, again, s, q);
  }
  // The same where rows are short, and those of the only group follow each other.
  void tile_panel(int64_t row, int64_t rows, KeepBits& bits, KeepBits& again, double* s,
                  double* q) const {
    T g_scratch[kPanelRows * kTileRow], x_scratch[kPanelRows * kTileRow];
    State states[kPanelRows];
    TileRows<T> tile;
    const T *all_g, *all_x;
    const int64_t n = call.cut.length;
    if (!by_tile.template prepare<true>(row, rows, call.begin_of(row + rows), states, &tile, &all_g,
                                        &all_x, g_scratch, x_scratch, bits))
      return apply_panel(row, rows, states, again, s, q);
    const T *g[kPanelRows], *x[kPanelRows];
    int64_t at[kPanelRows], j = 0;
    for (int64_t k = 0; k < rows; ++k) {
      states[k].hat = tile.hat(k);
      states[k].level = tile.level[k];
      states[k].slope = tile.slope[k];
      at[k] = call.begin_of(row + k);
      g[k] = all_g + k * n;
      x[k] = all_x + k * n;
    }
    ColumnSums sums(n);
    for (; j + kSide <= rows; j += kSide)
      apply<kSide>(states + j, at + j, n, g + j, x + j, call.weights, &sums);
    for (; j < rows; ++j) apply<1>(states + j, at + j, n, g + j, x + j, call.weights, &sums);
    sums.add_to(n, s, q);
  }
};

}  // namespace row_norms
}  // namespace
ONEPASS_END
