// Short rows backward, and rows of short channels: tiles of them, by the leaves of
// row_norm_tiles.h.
#pragma once
#include "cpu/row_norm_rows.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

template <class Call>
struct TileBackward {
  using R = typename Call::R;
  using T = typename Call::T;
  using State = RowState<R, T>;

  const Call& call;
  const RowBackward<Call> by_row{call};

  // g of the rows of a tile; `scratch` may become it.
  template <bool kColumns>
  const T* gradient(int64_t rows, int64_t n, int64_t at, int64_t end, const TileRows<T>& tile,
                    const T* x, KeepBits& bits, T* scratch) const {
    const RowNorm& norm = call.norm;
    const int64_t all = rows * n;
    const T* const dy = fetch<T>(norm.dy, norm.dtype, at, all, scratch);
    const T* g = dy;
    if (!by_row.is_dy()) {
      T* const kept = by_row.kept();
      T* const to = kept ? kept + at : scratch;
      T z[kPanelRows * kTileRow], residual_scratch[kPanelRows * kTileRow];
      if (!call.is_identity()) {
        const FlushDenormals flush;
        if (norm.epilogue.residual) {
          affine_rows<R, kColumns>(
              rows, n, tile,
              fetch<T>(norm.epilogue.residual, norm.dtype, at, all, residual_scratch), x, z);
        } else {
          affine_rows<R, kColumns>(rows, n, tile, Absent{}, x, z);
        }
      }
      const uint32_t* words = call.drops() ? bits.at(at, all, end) : nullptr;
      if (words) leaf_drawing<Dropout<T>, T>(call.dropout, all, words, to, dy);
      if (!call.is_identity())
        call.blocks.backward[norm.epilogue.activation](all, norm.epilogue.options, words ? to : dy,
                                                       z, to);
      g = to;
    }
    if (norm.dresidual) put<T>(norm.dresidual, norm.dtype, at, all, g);
    return g;
  }
  template <bool kColumns>
  void write(int64_t rows, int64_t n, int64_t at, const TileRows<T>& tile, const T* g, const T* x,
             T* scratch) const {
    T* const dx = call.direct ? static_cast<T*>(call.norm.dx) + at : scratch;
    const Ahead ahead = call.ahead_of_inputs(at + rows * n, rows, n);
    call.flushed([&] { input_gradient_rows<R, kColumns>(rows, n, tile, g, x, dx, ahead); });
    put<T>(call.norm.dx, call.norm.dtype, at, rows * n, dx);
  }

  // What dx of rows that follow each other needs, with g and x of them all. False: a row leaves the
  // range, and `states` has what it needs instead.
  template <bool kColumns>
  bool prepare(int64_t row, int64_t rows, int64_t end, State* states, TileRows<T>* tile,
               const T** g, const T** x, T* g_scratch, T* x_scratch, KeepBits& bits) const {
    const int64_t n = call.cut.length, at = call.begin_of(row);
    *x = fetch<T>(call.norm.x, call.norm.dtype, at, rows * n, x_scratch);
    if (call.norm.takes_statistics) Forward<Call>{call}.measure_tile(row, rows, *x);
    if (hats_of_rows<R>(rows, call.saved_row(0) + row, call.saved_row(1) + row,
                        call.saved_row(2) + row, tile)) {
      for (int64_t r = 0; r < rows; ++r) states[r] = by_row.prepare(row + r, end, bits);
      return false;
    }
    call.place_weights(row, rows, tile);
    *g = gradient<kColumns>(rows, n, at, end, *tile, *x, bits, g_scratch);
    double s[kTileRows], q[kTileRows];
    const Ahead ahead = call.ahead_of_output(at, rows, n);
    call.flushed([&] { gradient_sums_of_rows<R, kColumns>(rows, n, *tile, *g, *x, s, q, ahead); });
    if constexpr (!kColumns) add_weights(rows, *tile, by_row.channel_sums(row), s, q);
    if (!corrections_of_rows<R>(rows, call.part, s, q, tile)) return true;
    for (int64_t r = 0; r < rows; ++r) {
      states[r] = call.state_of(row + r);
      by_row.finish(row + r, end, s[r], q[r], states + r);
    }
    return false;
  }
  // Leaves the sums of runs, if wanted, and makes them those of g·w.
  void add_weights(int64_t runs, const TileRows<T>& tile, double* of_channels, double* s,
                   double* q) const {
    for (int64_t r = 0; r < runs; ++r) {
      if (of_channels) {
        of_channels[r] = s[r];
        of_channels[r + call.cut.sums() / 2] = q[r];
      }
      s[r] *= double(*tile.weight[r]);
      q[r] *= double(*tile.weight[r]);
    }
  }
  // A tile of rows.
  template <bool kColumns>
  void rows(int64_t row, int64_t rows, int64_t end, KeepBits& bits, KeepBits& again) const {
    T g_scratch[kBlockElements], x_scratch[kBlockElements];
    State states[kTileRows];
    TileRows<T> tile;
    const T *g, *x;
    const bool plain =
        prepare<kColumns>(row, rows, end, states, &tile, &g, &x, g_scratch, x_scratch, bits);
    if (!call.norm.dx) return;
    if (plain)
      return write<kColumns>(rows, call.cut.length, call.begin_of(row), tile, g, x, g_scratch);
    for (int64_t r = 0; r < rows; ++r) by_row.write_row(row + r, end, states[r], again);
  }

  // A row of some channels, each a short run: tiles of these.
  void channels(int64_t row, int64_t end, KeepBits& bits, KeepBits& again) const {
    State state = call.state_of(row);
    if (state.scaled) return by_row.row(row, end, bits, again);
    T g_scratch[kBlockElements], x_scratch[kBlockElements];
    TileRows<T> tile;
    double of_s[kTileRows], of_q[kTileRows], s = 0, q = 0;
    double* of_channels = by_row.channel_sums(row);
    const int64_t n = call.norm.inner;
    each_tile(row, state.hat, &tile, [&](int64_t at, int64_t runs) {
      const T* x = fetch<T>(call.norm.x, call.norm.dtype, at, runs * n, x_scratch);
      const T* g = gradient<false>(runs, n, at, end, tile, x, bits, g_scratch);
      const Ahead ahead = call.ahead_of_output(at, runs, n);
      call.flushed(
          [&] { gradient_sums_of_rows<R, false>(runs, n, tile, g, x, of_s, of_q, ahead); });
      add_weights(runs, tile, of_channels, of_s, of_q);
      if (of_channels) of_channels += runs;
      for (int64_t r = 0; r < runs; ++r) s += of_s[r], q += of_q[r];
    });
    by_row.finish(row, end, s, q, &state);
    if (!call.norm.dx) return;
    if (state.g_scale != T(1)) return by_row.write_row(row, end, state, again);
    for (int64_t r = 0; r < kTileRows; ++r) {
      tile.level[r] = state.level;
      tile.slope[r] = state.slope;
    }
    each_tile(row, state.hat, &tile, [&](int64_t at, int64_t runs) {
      const T* x = fetch<T>(call.norm.x, call.norm.dtype, at, runs * n, x_scratch);
      const T* g = by_row.kept() ? by_row.kept() + at
                                 : gradient<false>(runs, n, at, end, tile, x, again, g_scratch);
      write<false>(runs, n, at, tile, g, x, g_scratch);
    });
  }
  // f(first element, channels) for tiles of the channels of a row.
  template <class F>
  void each_tile(int64_t row, Hat<T> hat, TileRows<T>* tile, F f) const {
    const int64_t channels = call.norm.channels, n = call.norm.inner;
    const int64_t first = call.group_of(row) * channels,
                  step = smaller(kTileRows, kBlockElements / n);
    for (int64_t r = 0; r < kTileRows; ++r) tile->set_hat(r, hat);
    for (int64_t c = 0; c < channels; c += step) {
      const int64_t runs = smaller(step, channels - c);
      for (int64_t r = 0; r < runs; ++r) {
        tile->weight[r] = call.weights + first + c + r;
        tile->bias[r] = call.biases + first + c + r;
      }
      f(call.begin_of(row) + c * n, runs);
    }
  }
};

}  // namespace row_norms
}  // namespace
ONEPASS_END
