// A row norm backward: the sums of a row, then dx while x and dy are in a cache. Gradients of
// weight and bias are added up over rows in blocks that sizes decide, and these in order.
#pragma once
#include "cpu/row_norm_call.h"

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

  // Adds Σ g·w and Σ g·w·x̂ of a run to s and q.
  template <class W>
  void add_run(const State& state, int64_t n, const T* g, const T* x, W weight, double* s,
               double* q) const {
    call.flushed(
        [&] { normalise::add_terms_of_plane(n, s, q, RowPair<R, T, W>{state.hat, g, x, weight}); });
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
        if constexpr (std::is_pointer_v<decltype(weight)>) {
          add_run(state, n, g, x, w, lane_s, lane_q);
        } else {
          add_run(state, n, g, x, Uniform<T>{T(1)}, lane_s, lane_q);
        }
      }
      double sum = fold_lanes(lane_s);
      double products = fold_lanes(lane_q);
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
  // A row's statistics and sums.
  State prepare_row(int64_t row, int64_t end, KeepBits& bits) const {
    State state = call.state_of(row);
    double* of_channels = nullptr;
    if (call.cut.runs && call.wants_parameters())
      of_channels = call.sums + row * call.norm.channels;
    double s, q;
    sum_row(row, end, state, true, bits, &s, &q, of_channels);
    if (sum_leaves_range<T>(s) || sum_leaves_range<T>(q)) {
      state.g_scale = NormRange<T>::kGradientDown;
      KeepBits again = call.keep_bits();
      sum_row(row, end, state, false, again, &s, &q, of_channels);
    } else {
      s *= double(state.g_scale);
      q *= double(state.g_scale);
    }
    const auto c = R::correction(s, q, call.part);
    state.level = c.level;
    state.slope = c.slope;
    return state;
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

  // ---- rows by themselves

  void row(int64_t row, int64_t end, KeepBits& bits, KeepBits& again) const {
    const State state = prepare_row(row, end, bits);
    if (!call.norm.dx) return;
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
  static void row_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const int64_t first = index * call.cut.task_rows();
    const int64_t last = smaller(first + call.cut.task_rows(), call.cut.rows);
    KeepBits bits = call.keep_bits(), again = call.keep_bits();
    call.flushed_task([&] {
      for (int64_t r = first; r < last; ++r)
        Backward{call}.row(r, call.begin_of(last), bits, again);
    });
  }

  // ---- panels of rows of one group, with the sums of their columns

  // Of kRows rows of a group from `row` on, columns [c, c + n).
  template <int kRows>
  void panel_columns(int64_t row, const State* states, int64_t c, int64_t n, KeepBits& bits,
                     double* s, double* q) const {
    T g_scratch[kRows][kPanelColumns], x_scratch[kRows][kPanelColumns], scratch[kPanelColumns];
    const int64_t group = call.group_of(row);
    const T *w = call.weights + group * call.cut.length + c,
            *b = call.biases + group * call.cut.length + c;
    ColumnRows<R, kRows, T> rows;
    int64_t at[kRows];
    for (int j = 0; j < kRows; ++j) {
      at[j] = call.begin_of(row + j * call.norm.groups) + c;
      rows.row[j] = states[j].hat;
      rows.x[j] = call.x_of(states[j], at[j], n, x_scratch[j]);
      rows.g[j] = gradient_again(states[j], at[j], n, at[j] + n, w, b, bits, g_scratch[j]);
    }
    call.flushed([&] { add_columns<R, kRows, T>(n, s + c, q + c, rows); });
    if (!call.norm.dx) return;
    for (int j = 0; j < kRows; ++j) write(states[j], at[j], n, rows.g[j], rows.x[j], w, scratch);
  }
  template <int kRows>
  void panel(int64_t row, KeepBits& bits, KeepBits& again, double* s, double* q) const {
    State states[kRows];
    for (int j = 0; j < kRows; ++j) {
      const int64_t r = row + j * call.norm.groups;
      states[j] = prepare_row(r, call.begin_of(r + 1), bits);
    }
    for (int64_t c = 0; c < call.cut.length; c += kPanelColumns)
      panel_columns<kRows>(row, states, c, smaller(kPanelColumns, call.cut.length - c), again, s,
                           q);
  }
  static void panel_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const RowCut& cut = call.cut;
    const int64_t group = index / cut.blocks, block = index % cut.blocks;
    const int64_t first = call.norm.outer * block / cut.blocks;
    const int64_t last = call.norm.outer * (block + 1) / cut.blocks;
    double* s = call.sums + 2 * index * cut.length;
    double* q = s + cut.length;
    for (int64_t i = 0; i < 2 * cut.length; ++i) s[i] = 0;
    KeepBits bits = call.keep_bits(), again = call.keep_bits();
    const Backward self{call};
    call.flushed_task([&] {
      int64_t o = first;
      if (cut.length * int64_t(sizeof(T)) <= kPanelBytes)
        for (; o + kPanelRows <= last; o += kPanelRows)
          self.template panel<kPanelRows>(o * call.norm.groups + group, bits, again, s, q);
      for (; o < last; ++o) self.template panel<1>(o * call.norm.groups + group, bits, again, s, q);
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
