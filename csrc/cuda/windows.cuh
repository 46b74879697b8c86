// Windows over images: a thread gathers what an element of the result is made of, first to last.
// (The CPU adds a depthwise gradient of stride 1 last to first: cpu/depthwise.cpp.) Where the
// channels are last, it does so for W neighbouring ones at once.
#pragma once
#include "core/windows.h"

#include "cuda/divide.cuh"
#include "cuda/launch.cuh"
#include "kernels/max_pool.h"

ONEPASS_BEGIN
namespace windows {
namespace {

constexpr int64_t kMostWindowBlocks = 2112;

// Where the elements of an image are, or those of what has a value for each window.
struct Layout {
  int64_t rows, columns, row_step, column_step, image_step;
};
ONEPASS_HD Layout layout(const Windows& w, int64_t rows, int64_t columns) {
  const int64_t step = w.channels_last ? w.channels : 1;
  return {rows, columns, columns * step, step, rows * columns * step};
}
ONEPASS_HD Layout of_elements(const Windows& w) { return layout(w, w.rows.in, w.columns.in); }
ONEPASS_HD Layout of_windows(const Windows& w) { return layout(w, w.rows.out, w.columns.out); }

// An element of the result, the first of W channels; `from`: the index of the first element of its
// sample's channel in what is read.
struct Place {
  int64_t sample, channel, row, column, from;
};
ONEPASS_DEVICE Memory from_of(const Windows& w) { return memory(w.from, w.dtype); }

// use(k, unit) for k = 0, …, count - 1, where fetch(k) is the unit as it lies in memory: three
// loads are on their way before the first is used, as many as most kernels are wide.
template <class Fetch, class Use>
ONEPASS_DEVICE void each_unit(int64_t count, Fetch fetch, Use use) {
  int64_t k = 0;
  ONEPASS_NO_UNROLL
  for (; k + 3 <= count; k += 3) {
    Raw raw[3];
    ONEPASS_UNROLL
    for (int j = 0; j < 3; ++j) raw[j] = fetch(k + j);
    ONEPASS_UNROLL
    for (int j = 0; j < 3; ++j) use(k + j, raw[j]);
  }
  ONEPASS_NO_UNROLL
  for (; k < count; ++k) use(k, fetch(k));
}

// use(tap, x) for the elements x of the image under the window at p, in W channels, and row_done()
// after each of its rows,
template <int W, class T, class Use, class Done>
ONEPASS_DEVICE void each_tap(const Windows& w, const Place& p, Use use, Done row_done) {
  const Layout in = of_elements(w);
  const Range down = taps(w.rows, p.row), across = taps(w.columns, p.column);
  const int64_t step = w.columns.dilation * in.column_step;
  ONEPASS_NO_UNROLL
  for (int64_t i = down.begin; i < down.end; ++i) {
    const int64_t at = p.from + element(w.rows, p.row, i) * in.row_step +
                       element(w.columns, p.column, across.begin) * in.column_step;
    const int64_t tap = i * w.columns.kernel + across.begin;
    each_unit(
        across.end - across.begin,
        [&](int64_t k) { return fetch<W, T>(from_of(w), at + k * step); },
        [&](int64_t k, const Raw& raw) {
          T x[W];
          decode<W, T>(raw, w.dtype, x);
          use(tap + k, x);
        });
    row_done();
  }
}
// A window over an element: which of its taps lies there, where it is, and its index.
struct Over {
  int64_t tap, row, column, at;
};
// use(over, x) for each window over the element at p, where x is what `from` has for it; at(over)
// is where it has that.
template <int W, class T, class At, class Use>
ONEPASS_DEVICE void each_window(const Windows& w, const Place& p, At at, Use use) {
  const Layout out = of_windows(w);
  Cover down = windows_over(w.rows, p.row);
  const Cover beside = windows_over(w.columns, p.column);
  const int64_t before = beside.count - 1;
  const int64_t column = beside.window - before * beside.window_step;
  const int64_t last = beside.tap + before * beside.tap_step;
  ONEPASS_NO_UNROLL
  for (; down.count > 0; --down.count, down.tap += down.tap_step, down.window -= down.window_step) {
    const int64_t tap = down.tap * w.columns.kernel + last;
    const auto over = [&](int64_t k) {
      const int64_t j = column + k * beside.window_step;
      return Over{tap - k * beside.tap_step, down.window, j,
                  p.from + down.window * out.row_step + j * out.column_step};
    };
    each_unit(
        beside.count, [&](int64_t k) { return fetch<W, T>(from_of(w), at(over(k))); },
        [&](int64_t k, const Raw& raw) {
          T x[W];
          decode<W, T>(raw, w.dtype, x);
          use(over(k), x);
        });
  }
}
template <int W, class T, class Use>
ONEPASS_DEVICE void each_window(const Windows& w, const Place& p, Use use) {
  each_window<W, T>(w, p, [](const Over& over) { return over.at; }, use);
}

template <int W, class T>
ONEPASS_DEVICE void clear(T (&v)[W]) {
  ONEPASS_UNROLL
  for (int k = 0; k < W; ++k) v[k] = T(0);
}
template <int W, class T>
ONEPASS_DEVICE void add(T (&sum)[W], const T (&v)[W]) {
  ONEPASS_UNROLL
  for (int k = 0; k < W; ++k) sum[k] += v[k];
}

// The kernels of W neighbouring channels: as they are given,
template <int W, class T>
struct GivenWeights {
  ONEPASS_DEVICE void load(const Windows& w, const Place& p, int64_t tap, T (&v)[W]) const {
    ONEPASS_UNROLL
    for (int k = 0; k < W; ++k)
      v[k] = load_element<T>(memory(w.weight), (p.channel + k) * taps_of(w) + tap);
  }
};
// or from shared memory, (taps, channels).
template <int W, class T>
struct SharedWeights {
  static constexpr int kPart = W < kUnit<T> ? W : kUnit<T>;
  struct alignas(kPart * sizeof(T)) Piece {  // one load
    T value[kPart];
  };
  const Piece* first;  // of the first channel
  int tap_step;        // in pieces
  ONEPASS_DEVICE void load(const Windows&, const Place&, int64_t tap, T (&v)[W]) const {
    ONEPASS_UNROLL
    for (int k = 0; k < W; k += kPart) {
      const Piece piece = first[int(tap) * tap_step + k / kPart];
      ONEPASS_UNROLL
      for (int j = 0; j < kPart; ++j) v[k + j] = piece.value[j];
    }
  }
};

// Which tap of a window was the largest, in the computing type.
template <class T>
constexpr DType kTapType = sizeof(T) == 8 ? DType::f64 : DType::f32;
template <int W, class T>
ONEPASS_DEVICE void load_taps(const Windows& w, int64_t at, T (&v)[W]) {
  constexpr int kPart = W == 8 ? 4 : W;
  ONEPASS_UNROLL
  for (int k = 0; k < W; k += kPart)
    load_unit<kPart, T>(memory(w.indices, kTapType<T>), at + k, v + k);
}
template <int W, class T>
ONEPASS_DEVICE void store_taps(const Windows& w, int64_t at, const T (&v)[W]) {
  constexpr int kPart = W == 8 ? 4 : W;
  ONEPASS_UNROLL
  for (int k = 0; k < W; k += kPart)
    store_unit<kPart, T>(memory(w.indices, kTapType<T>), at + k, v + k);
}

// What an element of the result is: result() fills y, the elements of W channels; e is the index of
// the first. `back`: the result is an image, and what is read has a value for each window.
struct Forward {
  static constexpr bool back = false, weighted = false;
};
struct Backward {
  static constexpr bool back = true, weighted = false;
};

struct MaxPool : Forward {
  template <int W, class T, class Kernels>
  static ONEPASS_DEVICE void result(const Windows& w, const Place& p, int64_t e, const Kernels&,
                                    T (&y)[W]) {
    MaxPoolPick<T> pick[W];
    each_tap<W, T>(
        w, p,
        [&](int64_t tap, const T(&x)[W]) {
          ONEPASS_UNROLL
          for (int k = 0; k < W; ++k) pick[k].take(x[k], T(tap));
        },
        [] {});
    T taken[W];
    ONEPASS_UNROLL
    for (int k = 0; k < W; ++k) {
      y[k] = pick[k].most;
      taken[k] = pick[k].tap;
    }
    if (w.indices) store_taps(w, e, taken);
  }
};
struct MaxPoolBackward : Backward {
  template <int W, class T, class Kernels>
  static ONEPASS_DEVICE void result(const Windows& w, const Place& p, int64_t, const Kernels&,
                                    T (&sum)[W]) {
    clear(sum);
    each_window<W, T>(w, p, [&](const Over& over, const T(&dy)[W]) {
      T picked[W];
      load_taps(w, over.at, picked);
      ONEPASS_UNROLL
      for (int k = 0; k < W; ++k) sum[k] += max_pool_gradient(dy[k], picked[k], T(over.tap));
    });
  }
};

ONEPASS_DEVICE int64_t counts(const Windows& w, int64_t row, int64_t column) {
  return counted(w.rows, row, w.count_padding) * counted(w.columns, column, w.count_padding);
}
struct AvgPool : Forward {
  template <int W, class T, class Kernels>
  static ONEPASS_DEVICE void result(const Windows& w, const Place& p, int64_t, const Kernels&,
                                    T (&y)[W]) {
    T sum[W], part[W];  // row by row, as on the CPU
    clear(sum);
    clear(part);
    each_tap<W, T>(
        w, p, [&](int64_t, const T(&x)[W]) { add(part, x); },
        [&] {
          add(sum, part);
          clear(part);
        });
    const T count = T(counts(w, p.row, p.column));
    ONEPASS_UNROLL
    for (int k = 0; k < W; ++k) y[k] = sum[k] / count;
  }
};
struct AvgPoolBackward : Backward {
  template <int W, class T, class Kernels>
  static ONEPASS_DEVICE void result(const Windows& w, const Place& p, int64_t, const Kernels&,
                                    T (&sum)[W]) {
    clear(sum);
    each_window<W, T>(w, p, [&](const Over& over, const T(&dy)[W]) {
      const T count = T(counts(w, over.row, over.column));
      ONEPASS_UNROLL
      for (int k = 0; k < W; ++k) sum[k] += dy[k] / count;
    });
  }
};

// Convolutions of each channel with its own kernel.
template <int W, class T, class Kernels>
ONEPASS_DEVICE void add_product(const Windows& w, const Place& p, const Kernels& weights,
                                int64_t tap, const T (&x)[W], T (&sum)[W]) {
  T weight[W];
  weights.load(w, p, tap, weight);
  ONEPASS_UNROLL
  for (int k = 0; k < W; ++k) sum[k] += weight[k] * x[k];
}
struct Depthwise : Forward {
  static constexpr bool weighted = true;
  template <int W, class T, class Kernels>
  static ONEPASS_DEVICE void result(const Windows& w, const Place& p, int64_t,
                                    const Kernels& weights, T (&sum)[W]) {
    clear(sum);
    each_tap<W, T>(
        w, p, [&](int64_t tap, const T(&x)[W]) { add_product(w, p, weights, tap, x, sum); }, [] {});
  }
};
struct DepthwiseBackward : Backward {
  static constexpr bool weighted = true;
  template <int W, class T, class Kernels>
  static ONEPASS_DEVICE void result(const Windows& w, const Place& p, int64_t,
                                    const Kernels& weights, T (&sum)[W]) {
    clear(sum);
    each_window<W, T>(w, p, [&](const Over& over, const T(&dy)[W]) {
      add_product(w, p, weights, over.tap, dy, sum);
    });
  }
};

struct Col2im : Backward {
  template <int W, class T, class Kernels>
  static ONEPASS_DEVICE void result(const Windows& w, const Place& p, int64_t, const Kernels&,
                                    T (&sum)[W]) {
    clear(sum);
    const int64_t all = taps_of(w), windows = w.rows.out * w.columns.out;
    const int64_t first = w.channels_last ? p.sample * windows * all * w.channels + p.channel
                                          : (p.channel * all * w.samples + p.sample) * windows;
    const int64_t by_tap = w.channels_last ? w.channels : w.samples * windows;
    const int64_t by_window = w.channels_last ? all * w.channels : 1;
    const auto at = [&](const Over& over) {
      return first + over.tap * by_tap + (over.row * w.columns.out + over.column) * by_window;
    };
    each_window<W, T>(w, p, at, [&](const Over&, const T(&x)[W]) { add(sum, x); });
  }
};

// C order: a thread has an element, and its neighbours those beside it.
template <class T, class Work>
__global__ void __launch_bounds__(kThreads)
    planes_kernel(const __grid_constant__ Windows w, int64_t elements) {
  const Layout read = Work::back ? of_windows(w) : of_elements(w);
  const Layout written = Work::back ? of_elements(w) : of_windows(w);
  for (int64_t e = int64_t(blockIdx.x) * kThreads + threadIdx.x; e < elements;
       e += int64_t(gridDim.x) * kThreads) {
    const Quotient beside = divide(e, written.columns), down = divide(beside.whole, written.rows);
    const Quotient plane = divide(down.whole, w.channels);
    const Place p{plane.whole, plane.rest, down.rest, beside.rest, down.whole * read.image_step};
    T y[1];
    Work::template result<1, T>(w, p, e, GivenWeights<1, T>{}, y);
    store_unit<1, T>(memory(w.out, w.dtype), e, y);
  }
}

// The channels last: the channels are dealt out in parts of up to kThreads threads with W each; a
// block has a part, and its threads, after those of one position, neighbouring positions.
constexpr int kSharedWeights = 4096;  // values of a block
struct Part {
  int64_t channels, count;  // of a part (the last may have fewer), and how many parts
};
ONEPASS_HD Part parts_of(const Windows& w, int width, bool weighted) {
  const int64_t room = weighted ? kSharedWeights / (taps_of(w) * width) : kThreads;
  const int64_t channels = smaller(w.channels, width * larger(1, smaller(room, kThreads)));
  return {channels, ceil_div(w.channels, channels)};
}
template <int W, class T, class Work, bool kShared>
__global__ void __launch_bounds__(kThreads, 2)
    channels_kernel(const __grid_constant__ Windows w, int64_t positions) {
  using Kernels = SharedWeights<W, T>;
  ONEPASS_SHARED(typename Kernels::Piece, kept, [kShared ? kSharedWeights / Kernels::kPart : 1]);
  const Part part = parts_of(w, W, Work::weighted);
  const int64_t first = int64_t(blockIdx.x) % part.count * part.channels;
  const int channels = int(smaller(part.channels, w.channels - first));
  const int units = channels / W, unit = int(threadIdx.x) % units;
  if constexpr (kShared) {
    const int all = int(taps_of(w));
    for (int i = int(threadIdx.x); i < all * channels; i += kThreads) {
      const int channel = i / all, to = i % all * channels + channel;
      kept[to / Kernels::kPart].value[to % Kernels::kPart] =
          load_element<T>(memory(w.weight), first * all + i);
    }
    block_sync();
  }
  const Layout read = Work::back ? of_windows(w) : of_elements(w);
  const Layout written = Work::back ? of_elements(w) : of_windows(w);
  const int64_t channel = first + unit * W;
  const int together = kThreads / units, own = int(threadIdx.x) / units;
  if (own >= together) return;  // kThreads is no multiple of the units
  const int64_t step = int64_t(gridDim.x) / part.count * together;
  for (int64_t at = int64_t(blockIdx.x) / part.count * together + own; at < positions; at += step) {
    const Quotient beside = divide(at, written.columns), down = divide(beside.whole, written.rows);
    const Place p{down.whole, channel, down.rest, beside.rest,
                  down.whole * read.image_step + channel};
    const int64_t e = at * w.channels + channel;
    T y[W];
    if constexpr (kShared) {
      const Kernels kernels{kept + unit * (W / Kernels::kPart), channels / Kernels::kPart};
      Work::template result<W, T>(w, p, e, kernels, y);
    } else {
      Work::template result<W, T>(w, p, e, GivenWeights<W, T>{}, y);
    }
    store_unit<W, T>(memory(w.out, w.dtype), e, y);
  }
}

inline int64_t blocks_for(int64_t tasks) {
  return smaller(kMostWindowBlocks, ceil_div(tasks, kThreads));
}

// Whether W neighbouring channels can be moved at once.
template <class T>
bool in_units(const Windows& w, int width) {
  const auto fits = [width](const void* data, DType d) {
    return !data || is_aligned(data, d, int(smaller(width, 16 / size_of(d))));
  };
  return w.channels_last && w.channels % width == 0 && fits(w.from, w.dtype) &&
         fits(w.out, w.dtype) && fits(w.indices, kTapType<T>);
}

template <int W, class T, class Work, bool kShared>
void run_channels(const Windows& w, int64_t positions) {
  const Part part = parts_of(w, W, Work::weighted);
  const int64_t together = kThreads / ceil_div(part.channels, W);
  const int64_t each = larger(1, kMostWindowBlocks / part.count);
  start(&channels_kernel<W, T, Work, kShared>,
        smaller(each, ceil_div(positions, together)) * part.count,
        static_cast<cudaStream_t>(w.stream), w, positions);
}
template <class T, class Work>
void run_typed(const Windows& w) {
  const int64_t positions =
      w.samples * (Work::back ? w.rows.in * w.columns.in : w.rows.out * w.columns.out);
  const int64_t elements = positions * w.channels;
  if (elements == 0) return;
  if (!w.channels_last)
    return start(&planes_kernel<T, Work>, blocks_for(elements), static_cast<cudaStream_t>(w.stream),
                 w, elements);
  if constexpr (Work::weighted) {
    if (taps_of(w) * 8 > kSharedWeights) return run_channels<1, T, Work, false>(w, positions);
  }
  constexpr bool kShared = Work::weighted;
  if constexpr (sizeof(T) == 4)
    if (w.dtype != DType::f32 && in_units<T>(w, 8))
      return run_channels<8, T, Work, kShared>(w, positions);
  if (in_units<T>(w, kUnit<T>)) return run_channels<kUnit<T>, T, Work, kShared>(w, positions);
  run_channels<1, T, Work, kShared>(w, positions);
}
template <class Work>
void run_windows(const Windows& w) {
  w.dtype == DType::f64 ? run_typed<double, Work>(w) : run_typed<float, Work>(w);
}

// A column of the image for each window: C order, (channels, taps, samples, windows), or
// (samples, windows, taps, channels).
template <int W, class T>
__global__ void __launch_bounds__(kThreads)
    im2col_kernel(const __grid_constant__ Windows w, int64_t units) {
  const Layout in = of_elements(w);
  const int64_t all = taps_of(w), across = w.columns.out, down = w.rows.out;
  for (int64_t u = int64_t(blockIdx.x) * kThreads + threadIdx.x; u < units;
       u += int64_t(gridDim.x) * kThreads) {
    Quotient channel{0, 0}, tap{0, 0}, column{0, 0}, row{0, 0}, sample{0, 0};
    if (w.channels_last) {
      channel = divide(u, w.channels / W);
      tap = divide(channel.whole, all);
      column = divide(tap.whole, across);
      row = divide(column.whole, down);
      sample.rest = row.whole;
    } else {
      column = divide(u, across);
      row = divide(column.whole, down);
      sample = divide(row.whole, w.samples);
      tap = divide(sample.whole, all);
      channel.rest = tap.whole;
    }
    const Quotient at = divide(tap.rest, w.columns.kernel);
    const int64_t i = element(w.rows, row.rest, at.whole);
    const int64_t j = element(w.columns, column.rest, at.rest);
    const int64_t image = w.channels_last
                              ? sample.rest * in.image_step + channel.rest * W
                              : (sample.rest * w.channels + channel.rest) * in.image_step;
    T x[W];
    clear(x);
    if (i >= 0 && i < in.rows && j >= 0 && j < in.columns)
      load_unit<W, T>(from_of(w), image + i * in.row_step + j * in.column_step, x);
    store_unit<W, T>(memory(w.out, w.dtype), u * W, x);
  }
}
template <int W, class T>
void run_im2col(const Windows& w, int64_t elements) {
  start(&im2col_kernel<W, T>, blocks_for(elements / W), static_cast<cudaStream_t>(w.stream), w,
        elements / W);
}
template <class T>
void im2col_typed(const Windows& w) {
  const int64_t elements = w.samples * w.channels * w.rows.out * w.columns.out * taps_of(w);
  if (elements == 0) return;
  if constexpr (sizeof(T) == 4)
    if (w.dtype != DType::f32 && in_units<T>(w, 8)) return run_im2col<8, T>(w, elements);
  in_units<T>(w, kUnit<T>) ? run_im2col<kUnit<T>, T>(w, elements) : run_im2col<1, T>(w, elements);
}
inline void im2col(const Windows& w) {
  w.dtype == DType::f64 ? im2col_typed<double>(w) : im2col_typed<float>(w);
}

}  // namespace
}  // namespace windows
ONEPASS_END
