// A row norm backward: the sums of a row, then dx while x and dy are in a cache. Gradients of
// weight and bias are added up over rows in blocks that sizes decide, and these in order.
#pragma once
#include "cpu/row_norm_forward.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

template <class Call>
struct Backward {
  using R = typename Call::R;
  using T = typename Call::T;
  using State = RowState<R, T>;

  const Call& call;

  // g is dy itself.
  bool is_dy() const { return call.is_identity() && !call.drops(); }
  // Memory that keeps g from the sums to dx; null: g is dy, or is computed again.
  T* kept() const {
    if (is_dy() || !call.direct) return nullptr;
    return static_cast<T*>(call.norm.dresidual ? call.norm.dresidual : call.norm.dx);
  }

  // g of a run; `scratch` may become it.
  template <class W>
  const T* gradient(const State& state, int64_t at, int64_t n, int64_t end, W weight, W bias,
                    KeepBits& bits, T* scratch) const {
    const RowNorm& norm = call.norm;
    const T* dy = fetch<T>(norm.dy, norm.dtype, at, n, scratch);
    if (is_dy()) return dy;
    T* const kept = this->kept();
    T* g = kept ? kept + at : scratch;
    T z[kBlockElements];
    if (!call.is_identity()) {
      T x_scratch[kBlockElements], residual_scratch[kBlockElements];
      const T* x = call.x_of(state, at, n, x_scratch);
      const T* residual = nullptr;
      if (norm.epilogue.residual)
        residual = fetch<T>(norm.epilogue.residual, norm.dtype, at, n, residual_scratch);
      const FlushDenormals flush;
      const RowAffine<R, T> affine{state.hat, call.dropout};
      compose(affine, n, nullptr, residual, z, x, weight, bias);
    }
    const uint32_t* words = call.drops() ? bits.at(at, n, end) : nullptr;
    if (words) leaf_drawing<Dropout<T>, T>(call.dropout, n, words, g, dy);
    if (!call.is_identity())
      call.blocks.backward[norm.epilogue.activation](n, norm.epilogue.options, words ? g : dy, z,
                                                     g);
    return g;
  }
  // The same where it has been computed before.
  template <class W>
  const T* gradient_again(const State& state, int64_t at, int64_t n, int64_t end, W weight, W bias,
                          KeepBits& bits, T* scratch) const {
    if (const T* const kept = this->kept()) return kept + at;
    return gradient(state, at, n, end, weight, bias, bits, scratch);
  }

  // Adds Σ g·w and Σ g·w·x̂ of a run to the lanes s and q.
  template <class W>
  void add_run(const State& state, int64_t n, const T* g, const T* x, W weight, double* s,
               double* q) const {
    call.flushed(
        [&] { normalise::add_terms_of_plane(n, s, q, RowPair<R, T, W>{state.hat, g, x, weight}); });
  }
  // Those of a whole short run, which needs one lane for each.
  template <class W>
  void add_short_run(const State& state, int64_t n, const T* g, const T* x, W weight, double* s,
                     double* q) const {
    TileRows<T> tile;
    tile.hat[0] = state.hat;
    call.flushed([&] {
      if constexpr (std::is_pointer_v<W>) {
        tile.weight[0] = weight;
        gradient_sums_of_rows<R, true>(1, n, tile, g, x, s, q);
      } else {
        gradient_sums_of_rows<R, false>(1, n, tile, g, x, s, q);
      }
    });
  }
  // The sums of a row, of g·g_scale. first: g is computed, delivered, and kept; `of_channels`, if
  // given, gets those of each channel without its weight.
  void sum_row(int64_t row, int64_t end, const State& state, bool first, KeepBits& bits, double* s,
               double* q, double* of_channels) const {
    *s = *q = 0;
    call.each_run(row, [&](int64_t at, int64_t count, auto weight, auto bias, int64_t channel) {
      alignas(kLine) double lane_s[kSumLanes] = {}, lane_q[kSumLanes] = {};
      for (int64_t i = 0; i < count; i += kBlockElements) {
        const int64_t n = smaller(kBlockElements, count - i);
        T g_scratch[kBlockElements], x_scratch[kBlockElements];
        const auto w = Call::from(weight, i), b = Call::from(bias, i);
        const T* g = first ? gradient(state, at + i, n, end, w, b, bits, g_scratch)
                           : gradient_again(state, at + i, n, end, w, b, bits, g_scratch);
        if (first && call.norm.dresidual)
          put<T>(call.norm.dresidual, call.norm.dtype, at + i, n, g);
        if (!first) g = normalise::scale_run(n, g, Uniform<T>{state.g_scale}, g_scratch);
        const T* x = call.x_of(state, at + i, n, x_scratch);
        if (call.cut.is_short) {
          add_short_run(state, n, g, x, w, lane_s, lane_q);
        } else if constexpr (std::is_pointer_v<decltype(weight)>) {
          add_run(state, n, g, x, w, lane_s, lane_q);
        } else {
          add_run(state, n, g, x, Uniform<T>{T(1)}, lane_s, lane_q);
        }
      }
      double sum = call.cut.is_short ? lane_s[0] : fold_lanes_by_halves(lane_s);
      double products = call.cut.is_short ? lane_q[0] : fold_lanes_by_halves(lane_q);
      if constexpr (!std::is_pointer_v<decltype(weight)>) {
        if (of_channels) {
          const double by = first ? 1 : double(state.g_scale);
          of_channels[channel] = sum / by;
          of_channels[channel + call.cut.sums() / 2] = products / by;
        }
        sum *= double(weight.value);
        products *= double(weight.value);
      }
      *s += sum;
      *q += products;
    });
  }
  double* channel_sums(int64_t row) const {
    return call.cut.runs && call.wants_parameters() ? call.sums + row * call.norm.channels
                                                    : nullptr;
  }
  // A row's statistics and sums.
  State prepare_row(int64_t row, int64_t end, KeepBits& bits) const {
    State state =
        call.norm.takes_statistics ? Forward<Call>{call}.measure(row) : call.state_of(row);
    double s, q;
    sum_row(row, end, state, true, bits, &s, &q, channel_sums(row));
    finish_row(row, end, s, q, &state);
    return state;
  }
  void finish_row(int64_t row, int64_t end, double s, double q, State* state) const {
    if (sum_leaves_range<T>(s) || sum_leaves_range<T>(q)) {
      state->g_scale = NormRange<T>::kGradientDown;
      KeepBits again = call.keep_bits();
      sum_row(row, end, *state, false, again, &s, &q, channel_sums(row));
    } else {
      s *= double(state->g_scale);
      q *= double(state->g_scale);
    }
    const auto c = R::correction(s, q, call.part);
    state->level = c.level;
    state->slope = c.slope;
  }

  template <class W>
  void write(const State& state, int64_t at, int64_t n, const T* g, const T* x, W weight,
             T* scratch) const {
    T* dx = call.direct ? static_cast<T*>(call.norm.dx) + at : scratch;
    if (state.g_scale != T(1)) g = normalise::scale_run(n, g, Uniform<T>{state.g_scale}, scratch);
    const RowInputGradient<R, T> k{state.hat, state.level, state.slope};
    call.flushed([&] { leaf_returning<RowInputGradient<R, T>, T>(k, n, dx, g, x, weight); });
    if (state.g_scale != T(1))
      normalise::unscale_run(n, dx, Uniform<T>{state.x_scale()}, Uniform<T>{state.g_scale});
    put<T>(call.norm.dx, call.norm.dtype, at, n, dx);
  }

  // ---- tiles

  // g of the rows of a tile; `scratch` may become it.
  template <bool kColumns>
  const T* tile_gradient(int64_t rows, int64_t at, int64_t end, const TileRows<T>& tile, const T* x,
                         KeepBits& bits, T* scratch) const {
    const RowNorm& norm = call.norm;
    const int64_t n = rows * call.cut.length;
    const T* const dy = fetch<T>(norm.dy, norm.dtype, at, n, scratch);
    const T* g = dy;
    if (!is_dy()) {
      T* const kept = this->kept();
      T* const to = kept ? kept + at : scratch;
      T z[kPanelRows * kTileRow], residual_scratch[kPanelRows * kTileRow];
      if (!call.is_identity()) {
        const FlushDenormals flush;
        if (norm.epilogue.residual) {
          affine_rows<R, kColumns>(
              rows, call.cut.length, tile,
              fetch<T>(norm.epilogue.residual, norm.dtype, at, n, residual_scratch), x, z);
        } else {
          affine_rows<R, kColumns>(rows, call.cut.length, tile, Absent{}, x, z);
        }
      }
      const uint32_t* words = call.drops() ? bits.at(at, n, end) : nullptr;
      if (words) leaf_drawing<Dropout<T>, T>(call.dropout, n, words, to, dy);
      if (!call.is_identity())
        call.blocks.backward[norm.epilogue.activation](n, norm.epilogue.options, words ? to : dy, z,
                                                       to);
      g = to;
    }
    if (norm.dresidual) put<T>(norm.dresidual, norm.dtype, at, n, g);
    return g;
  }
  // The states of rows that follow each other, with g and x of them all. False: one of them is
  // scaled, and g and x are not.
  template <bool kColumns>
  bool prepare_tile(int64_t row, int64_t rows, int64_t end, State* states, TileRows<T>* tile,
                    const T** g, const T** x, T* g_scratch, T* x_scratch, KeepBits& bits) const {
    const int64_t n = call.cut.length, at = call.begin_of(row);
    *x = fetch<T>(call.norm.x, call.norm.dtype, at, rows * n, x_scratch);
    if (call.norm.takes_statistics) Forward<Call>{call}.measure_tile(row, rows, *x);
    bool scaled = false;
    for (int64_t r = 0; r < rows; ++r) {
      states[r] = call.state_of(row + r);
      tile->hat[r] = states[r].hat;
      scaled = scaled || states[r].scaled;
    }
    if (scaled) {
      for (int64_t r = 0; r < rows; ++r) states[r] = prepare_row(row + r, end, bits);
      return false;
    }
    call.place_weights(row, rows, tile);
    *g = tile_gradient<kColumns>(rows, at, end, *tile, *x, bits, g_scratch);
    double s[kTileRows], q[kTileRows];
    call.flushed([&] { gradient_sums_of_rows<R, kColumns>(rows, n, *tile, *g, *x, s, q); });
    for (int64_t r = 0; r < rows; ++r) {
      if constexpr (!kColumns) {
        if (double* const of_channel = channel_sums(row + r)) {
          of_channel[0] = s[r];
          of_channel[call.cut.sums() / 2] = q[r];
        }
        s[r] *= double(*tile->weight[r]);
        q[r] *= double(*tile->weight[r]);
      }
      finish_row(row + r, end, s[r], q[r], states + r);
      tile->level[r] = states[r].level;
      tile->slope[r] = states[r].slope;
      scaled = scaled || states[r].g_scale != T(1);
    }
    return !scaled;
  }
  template <bool kColumns>
  void tile(int64_t row, int64_t rows, int64_t end, KeepBits& bits, KeepBits& again) const {
    T g_scratch[kBlockElements], x_scratch[kBlockElements];
    State states[kTileRows];
    TileRows<T> tile;
    const T *g, *x;
    const bool plain =
        prepare_tile<kColumns>(row, rows, end, states, &tile, &g, &x, g_scratch, x_scratch, bits);
    if (!call.norm.dx) return;
    if (!plain) {
      for (int64_t r = 0; r < rows; ++r) write_row(row + r, end, states[r], again);
      return;
    }
    const int64_t at = call.begin_of(row), n = rows * call.cut.length;
    T* const dx = call.direct ? static_cast<T*>(call.norm.dx) + at : g_scratch;
    call.flushed([&] { input_gradient_rows<R, kColumns>(rows, call.cut.length, tile, g, x, dx); });
    put<T>(call.norm.dx, call.norm.dtype, at, n, dx);
  }

  // ---- rows by themselves

  void row(int64_t row, int64_t end, KeepBits& bits, KeepBits& again) const {
    const State state = prepare_row(row, end, bits);
    if (call.norm.dx) write_row(row, end, state, again);
  }
  void write_row(int64_t row, int64_t end, const State& state, KeepBits& again) const {
    call.each_run(row, [&](int64_t at, int64_t count, auto weight, auto bias, int64_t) {
      for (int64_t i = 0; i < count; i += kBlockElements) {
        const int64_t n = smaller(kBlockElements, count - i);
        T g_scratch[kBlockElements], x_scratch[kBlockElements], scratch[kBlockElements];
        const auto w = Call::from(weight, i), b = Call::from(bias, i);
        const T* x = call.x_of(state, at + i, n, x_scratch);
        const T* g = gradient_again(state, at + i, n, end, w, b, again, g_scratch);
        write(state, at + i, n, g, x, w, scratch);
      }
    });
  }
  void rows(int64_t first, int64_t last, KeepBits& bits, KeepBits& again) const {
    const int64_t end = call.begin_of(last), step = call.cut.tile_rows();
    if (!call.cut.tiles) {
      for (int64_t r = first; r < last; ++r) row(r, end, bits, again);
    } else if (call.cut.runs) {
      for (int64_t r = first; r < last; r += step)
        tile<false>(r, smaller(step, last - r), end, bits, again);
    } else {
      for (int64_t r = first; r < last; r += step)
        tile<true>(r, smaller(step, last - r), end, bits, again);
    }
  }
  static void row_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const int64_t first = index * call.cut.task_rows();
    const int64_t last = smaller(first + call.cut.task_rows(), call.cut.rows);
    KeepBits bits = call.keep_bits(), again = call.keep_bits();
    call.flushed_task([&] { Backward{call}.rows(first, last, bits, again); });
  }

  // ---- panels of rows of one group, with the sums of their columns

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
      for (int j = 0; j < kRows; ++j) write(states[j], at[j], n, g[j], x[j], weight, scratch[j]);
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
      g[j] = gradient_again(states[j], at[j], n, at[j] + n, weight, bias, bits, g_scratch[j]);
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
      states[j] = prepare_row(r, call.begin_of(r + 1), bits);
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
    if (!prepare_tile<true>(row, rows, call.begin_of(row + rows), states, &tile, &all_g, &all_x,
                            g_scratch, x_scratch, bits))
      return apply_panel(row, rows, states, again, s, q);
    const T *g[kPanelRows], *x[kPanelRows];
    int64_t at[kPanelRows], j = 0;
    for (int64_t k = 0; k < rows; ++k) {
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
  static void panel_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const RowCut& cut = call.cut;
    const int64_t group = index / cut.blocks, block = index % cut.blocks;
    const int64_t last = call.norm.outer * (block + 1) / cut.blocks;
    double* s = call.sums + 2 * index * cut.length;
    double* q = s + cut.length;
    for (int64_t i = 0; i < 2 * cut.length; ++i) s[i] = 0;
    KeepBits bits = call.keep_bits(), again = call.keep_bits();
    const Backward self{call};
    const int64_t most = cut.length * int64_t(sizeof(T)) <= kPanelBytes ? kPanelRows : 1;
    call.flushed_task([&] {
      for (int64_t o = call.norm.outer * block / cut.blocks; o < last; o += most) {
        const int64_t rows = smaller(most, last - o);
        if (cut.tiles && call.norm.groups == 1) {
          self.tile_panel(o, rows, bits, again, s, q);
        } else {
          self.panel(o * call.norm.groups + group, rows, bits, again, s, q);
        }
      }
    });
  }

  // ---- gradients of weight and bias

  // Of at most kUnits channels from `first` on, all in one group where columns are blocks.
  void finish_channels(int64_t first, int64_t n) const {
    const RowCut& cut = call.cut;
    double s[kUnits], q[kUnits];
    for (int64_t k = 0; k < n; ++k) s[k] = q[k] = 0;
    if (cut.runs) {
      for (int64_t o = 0; o < call.norm.outer; ++o) {
        const double* of_s = call.sums + o * cut.channels + first;
        const double* of_q = of_s + cut.sums() / 2;
        for (int64_t k = 0; k < n; ++k) s[k] += of_s[k], q[k] += of_q[k];
      }
    } else {
      const int64_t inner = call.norm.inner, group = first / call.norm.channels;
      const int64_t column = (first - group * call.norm.channels) * inner;
      for (int64_t b = 0; b < cut.blocks; ++b) {
        const double* of_s = call.sums + 2 * (group * cut.blocks + b) * cut.length + column;
        const double* of_q = of_s + cut.length;
        for (int64_t k = 0; k < n; ++k)
          for (int64_t i = 0; i < inner; ++i)
            s[k] += of_s[k * inner + i], q[k] += of_q[k * inner + i];
      }
    }
    store_channels(call.norm.dbias, first, n, s);
    store_channels(call.norm.dweight, first, n, q);
  }
  // Channels of a finishing task, and tasks of a group.
  int64_t finish_step() const {
    return smaller(kUnits / 2, call.cut.runs ? call.cut.channels : call.norm.channels);
  }
  int64_t finish_tasks() const {
    return ceil_div(call.cut.runs ? call.cut.channels : call.norm.channels, finish_step());
  }
  static void finish_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const Backward self{call};
    const int64_t tasks = self.finish_tasks(), step = self.finish_step();
    const int64_t all = call.cut.runs ? call.cut.channels : call.norm.channels;
    const int64_t group = index / tasks, first = index % tasks * step;
    self.finish_channels(group * all + first, smaller(step, all - first));
  }

  void run() const {
    call.prepare();
    const bool columns = !call.cut.runs && call.wants_parameters();
    if (columns) {
      call.run(&panel_task, call.norm.groups * call.cut.blocks);
    } else {
      call.run(&row_task, ceil_div(call.cut.rows, call.cut.task_rows()));
    }
    if (call.wants_parameters())
      call.run(&finish_task, finish_tasks() * (call.cut.runs ? 1 : call.norm.groups));
  }
};

}  // namespace row_norms
}  // namespace
ONEPASS_END
