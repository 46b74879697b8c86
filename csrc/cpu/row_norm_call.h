// One call of a row norm as its passes see it: how it is cut, the rows' statistics, and the weights
// in the computing type.
#pragma once
#include "core/sizes.h"
#include "cpu/activation_blocks.h"
#include "cpu/dense.h"
#include "cpu/epilogue.h"
#include "cpu/parallel.h"
#include "cpu/row_norm_tiles.h"
#include "cpu/scaled_runs.h"
#include "kernels/moments_range.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

using normalise::kLine;
using normalise::kSumLanes;
using normalise::kUnits;

constexpr int64_t kLongRun = 64;  // elements of a channel that are taken by themselves
constexpr int64_t kBlockRows = 32, kMostBlocks = 64;  // rows whose columns a task adds up; tasks
constexpr int64_t kPanelRows = 8;                     // of them, those added in the computing type
constexpr int64_t kPanelBytes = 64 << 10;             // a longer row is a panel by itself
constexpr int64_t kPanelColumns = 512;
constexpr int64_t kFarBytes = 1 << 20;  // of an array
constexpr int kSide = 2;                // rows that a loop takes side by side

// How a call is cut, by sizes alone. `runs`: all elements of a channel lie together and share one
// weight, so that a row's sums are those of its channels. Otherwise weights are a row of columns.
struct RowCut {
  int64_t outer, rows, length;  // of a row
  int64_t channels;             // of all groups
  bool runs;
  bool is_short;    // runs of one form of weight are added up in kTileLanes lanes
  bool tiles;       // rows are done several at once
  int64_t columns;  // of all groups; where tiles are of runs with one weight each, these weights
  int64_t blocks;   // of outer, whose columns are added up apart

  explicit RowCut(const RowNorm& c)
      : outer(c.outer),
        rows(c.rows()),
        length(c.row_elements()),
        channels(c.groups * c.channels),
        runs(c.channels == 1 || c.inner >= kLongRun),
        is_short((runs ? c.inner : length) <= kTileRow),
        tiles(is_short && (c.channels == 1 || !runs)),
        columns(c.groups * (!runs      ? length
                            : is_short ? c.channels
                                       : 0)),
        blocks(larger(1, smaller(kMostBlocks, c.outer / kBlockRows))) {}

  int64_t task_rows() const { return larger(1, ceil_div(kTaskElements, larger(1, length))); }
  int64_t tile_rows() const { return smaller(kTileRows, kBlockElements / larger(1, length)); }
  // Doubles in which backward leaves the sums of channels: for each row in turn, or for each block
  // of columns; of each, Σg and Σ g·x̂.
  int64_t sums() const { return 2 * (runs ? outer * channels : blocks * columns); }
};

// Bytes of a call's workspace: weight and bias of each column, then the sums, or of a forward call
// with running statistics the mean and variance of each row.
inline int64_t column_bytes(const RowNorm& c, const RowCut& cut) {
  return round_up(2 * cut.columns * (c.dtype == DType::f64 ? 8 : 4), kLine);
}
inline int64_t row_norm_workspace(const RowNorm& c) {
  const RowCut cut(c);
  const int64_t doubles = !c.dy ? (c.running_mean.data || c.running_var.data ? 2 * cut.rows : 0)
                                : (c.dweight.data || c.dbias.data ? cut.sums() : 0);
  return kLine + column_bytes(c, cut) + doubles * int64_t(sizeof(double));
}

// By halves, so that the order is that of no instruction set.
ONEPASS_HD double fold_lanes_by_halves(const double* lanes) {
  static_assert(kSumLanes == 32);
  double of_8[8];
  for (int l = 0; l < 8; ++l) of_8[l] = (lanes[l] + lanes[l + 16]) + (lanes[l + 8] + lanes[l + 24]);
  return ((of_8[0] + of_8[4]) + (of_8[2] + of_8[6])) + ((of_8[1] + of_8[5]) + (of_8[3] + of_8[7]));
}

template <class R, class T>
struct RowState {
  typename R::Saved saved;
  Hat<T> hat;
  T level = 0, slope = 0;  // of dx
  bool scaled = false;     // x meets kDown: kernels/norm_range.h
  T g_scale = T(1);

  T x_scale() const { return scaled ? NormRange<T>::kDown : T(1); }
};

template <class R_, class T_>
struct RowNormCall {
  using R = R_;
  using T = T_;

  const RowNorm& norm;
  const RowCut cut;
  const double part;
  const ActivationBlocks<T>& blocks;
  const Dropout<T> dropout;
  const bool direct;    // arrays hold the computing type
  const bool stream;    // y bypasses the caches
  const bool far;       // the arrays are beyond the second-level cache
  T *weights, *biases;  // of columns
  double* sums;

  RowNormCall(const RowNorm& c, double part_of_sums)
      : norm(c),
        cut(c),
        part(part_of_sums),
        blocks(activation_blocks<T>()),
        dropout{dropout_scale<T>(c.epilogue.dropout.threshold)},
        direct(same_dtype<T>(c.dtype)),
        stream(!c.dy && direct && is_streamed(cut.rows * cut.length * int64_t(sizeof(T)))),
        far(cut.rows * cut.length * size_of(c.dtype) >= kFarBytes) {
    char* memory =
        reinterpret_cast<char*>(round_up(int64_t(reinterpret_cast<intptr_t>(c.workspace)), kLine));
    weights = reinterpret_cast<T*>(memory);
    biases = weights + cut.columns;
    sums = reinterpret_cast<double*>(memory + column_bytes(c, cut));
  }

  bool drops() const { return norm.epilogue.dropout.threshold != 0; }
  bool is_identity() const { return norm.epilogue.activation == Epilogue::kIdentity; }
  bool wants_parameters() const { return norm.dweight.data || norm.dbias.data; }
  int64_t group_of(int64_t row) const { return row % norm.groups; }
  int64_t begin_of(int64_t row) const { return row * cut.length; }
  KeepBits keep_bits() const { return KeepBits(norm.epilogue.dropout, nullptr); }
  T* saved_row(int64_t which) const { return static_cast<T*>(norm.saved) + which * cut.rows; }

  RowState<R, T> state_of(typename R::Saved saved) const {
    RowState<R, T> state;
    state.scaled = leaves_range(saved.mean, saved.rstd, saved.rstd);
    state.saved = state.scaled ? in_range<T>(saved) : saved;
    if (state.scaled) state.g_scale = NormRange<T>::kGradientDown;
    state.hat = {state.saved.mean, state.saved.rstd, R::offset(state.saved)};
    return state;
  }
  RowState<R, T> state_of(int64_t row) const {
    return state_of({saved_row(0)[row], saved_row(1)[row], saved_row(2)[row]});
  }
  // x as its row's statistics take it.
  const T* x_of(const RowState<R, T>& state, int64_t at, int64_t n, T* scratch) const {
    const T* x = fetch<T>(norm.x, norm.dtype, at, n, scratch);
    if (!state.scaled) return x;
    return normalise::scale_run(n, x, Uniform<T>{NormRange<T>::kDown}, scratch);
  }

  // f(first element, elements, weight, bias, channel) for the runs of a row that share one form of
  // weight: its channels, or all of its columns.
  template <class F>
  void each_run(int64_t row, F f) const {
    const int64_t begin = begin_of(row), group = group_of(row);
    if (!cut.runs) {
      const T *w = weights + group * cut.length, *b = biases + group * cut.length;
      f(begin, cut.length, w, b, int64_t(0));
      return;
    }
    for (int64_t c = 0; c < norm.channels; ++c) {
      double weight, bias;
      load_channels(norm.weight, group * norm.channels + c, 1, 1, &weight);
      load_channels(norm.bias, group * norm.channels + c, 1, 0, &bias);
      f(begin + c * norm.inner, norm.inner, Uniform<T>{T(weight)}, Uniform<T>{T(bias)}, c);
    }
  }
  template <class W>
  static ONEPASS_HD W from(W w, int64_t i) {
    if constexpr (std::is_pointer_v<W>) {
      return w + i;
    } else {
      (void)i;
      return w;
    }
  }

  // Tiles of n elements: dx of those at `at`; x and dy of `rows` of them behind.
  Ahead ahead_of_output(int64_t at, int64_t rows, int64_t n) const {
    const int64_t size = size_of(norm.dtype);
    return {static_cast<const char*>(norm.dx) + at * size, nullptr, n * size,
            far && norm.dx ? rows : 0};
  }
  Ahead ahead_of_inputs(int64_t at, int64_t rows, int64_t n) const {
    const int64_t size = size_of(norm.dtype), left = (cut.rows * cut.length - at) / n;
    return {static_cast<const char*>(norm.x) + at * size,
            static_cast<const char*>(norm.dy) + at * size, n * size, far ? smaller(rows, left) : 0};
  }
  // Weights of the rows of a tile.
  void place_weights(int64_t row, int64_t rows, TileRows<T>* tile) const {
    const int64_t each = cut.runs ? 1 : cut.length;
    for (int64_t r = 0, group = group_of(row); r < rows; ++r) {
      tile->weight[r] = weights + group * each;
      tile->bias[r] = biases + group * each;
      if (++group == norm.groups) group = 0;
    }
  }
  // Weight and bias of columns [first, first + n) of all groups.
  void spread_channels(int64_t first, int64_t n) const {
    double weight[kUnits], bias[kUnits];
    const int64_t inner = cut.runs ? 1 : norm.inner;
    const int64_t channel = first / inner, last = (first + n - 1) / inner;
    load_channels(norm.weight, channel, last - channel + 1, 1, weight);
    load_channels(norm.bias, channel, last - channel + 1, 0, bias);
    int64_t i = 0;
    for (int64_t c = channel; c <= last; ++c) {
      const int64_t end = smaller(n, (c + 1) * inner - first);
      for (; i < end; ++i) {
        weights[first + i] = T(weight[c - channel]);
        biases[first + i] = T(bias[c - channel]);
      }
    }
  }
  void prepare() const {
    for (int64_t i = 0; i < cut.columns; i += kUnits)
      spread_channels(i, smaller(kUnits, cut.columns - i));
  }

  // Subnormals count as zero in the norm's own arithmetic, and in no activation. Where there is
  // none, a whole task flushes them: changing the mode takes as long as a short row.
  template <class F>
  void flushed_task(F f) const {
    if (!is_identity()) return f();
    const FlushDenormals flush;
    f();
  }
  template <class F>
  void flushed(F f) const {
    if (is_identity()) return f();
    const FlushDenormals flush;
    f();
  }
  void run(void (*task)(void*, int64_t), int64_t tasks) const {
    void* self = const_cast<RowNormCall*>(this);
    if (cut.rows * cut.length <= kSerialElements) {
      for (int64_t i = 0; i < tasks; ++i) task(self, i);
    } else {
      parallel_for(tasks, task, self);
    }
  }
};

}  // namespace row_norms
}  // namespace
ONEPASS_END
