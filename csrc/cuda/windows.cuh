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

// Sizes and places within an image, in 32 bits where all of them fit (is_short): 64 take a GPU two
// to four instructions each. A is an axis of that kind, I its integers.
template <class A>
ONEPASS_HD A axis_as(const WindowAxis& a);
template <>
ONEPASS_HD WindowAxis axis_as(const WindowAxis& a) {
  return a;
}
template <>
ONEPASS_HD ShortAxis axis_as(const WindowAxis& a) {
  return shortened(a);
}
// Where the elements of an image are, or those of what has a value for each window.
template <class I>
struct Layout {
  I rows, columns, row_step, column_step, image_step;
};
template <class A>
struct Shape {
  using I = IndexOf<A>;
  A rows, columns;
  I step;  // between columns
  ONEPASS_HD explicit Shape(const Windows& w)
      : rows(axis_as<A>(w.rows)),
        columns(axis_as<A>(w.columns)),
        step(I(w.channels_last ? w.channels : 1)) {}
  ONEPASS_HD Layout<I> layout(I height, I width) const {
    return {height, width, width * step, step, height * width * step};
  }
  ONEPASS_HD Layout<I> of_elements() const { return layout(rows.in, columns.in); }
  ONEPASS_HD Layout<I> of_windows() const { return layout(rows.out, columns.out); }
};
// Nothing may overflow before a tap is found to be beside the image.
inline bool is_short(const Windows& w) {
  constexpr int64_t kMost = int64_t(1) << 30;
  const auto reach = [](const WindowAxis& a) {
    return a.in + a.out + a.before + a.after + a.stride + 3 * a.dilation + a.kernel;
  };
  const int64_t step = w.channels_last ? larger(1, w.channels) : 1;
  return reach(w.rows) < kMost / reach(w.columns) / step;
}

// An element of the result, the first of W channels. What is read of its sample's channel (or of
// that channel and those after it) begins at `from`, which has the index `first`.
template <class I>
struct Place {
  int64_t sample, channel;
  I row, column;
  int64_t first;
  Memory from;
};
ONEPASS_DEVICE Memory from_of(const Windows& w, int64_t first = 0) {
  return memory(static_cast<const char*>(w.from) + first * int64_t(size_of(w.dtype)), w.dtype);
}

// use(k, unit) for k = 0, …, count - 1, where fetch(k) is the unit as it lies in memory: three
// loads are on their way before the first is used, as many as most kernels are wide.
template <class I, class Fetch, class Use>
ONEPASS_DEVICE void each_unit(I count, Fetch fetch, Use use) {
  I k = 0;
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
template <int W, class T, class A, class I, class Use, class Done>
ONEPASS_DEVICE void each_tap(const Shape<A>& shape, const Place<I>& p, Use use, Done row_done) {
  const Layout<I> in = shape.of_elements();
  const auto down = taps(shape.rows, p.row), across = taps(shape.columns, p.column);
  const I step = shape.columns.dilation * in.column_step, count = across.end - across.begin;
  I at = element(shape.rows, p.row, down.begin) * in.row_step +
         element(shape.columns, p.column, across.begin) * in.column_step;
  I tap = down.begin * shape.columns.kernel + across.begin;
  ONEPASS_NO_UNROLL
  for (I i = down.begin; i < down.end; ++i) {
    each_unit(
        count, [&](I k) { return fetch<W, T>(p.from, at + k * step); },
        [&](I k, const Raw& raw) {
          T x[W];
          decode<W, T>(raw, p.from.dtype, x);
          use(tap + k, x);
        });
    row_done();
    at += shape.rows.dilation * in.row_step;
    tap += shape.columns.kernel;
  }
}
// A window over an element: which of its taps lies there, where it is, and its index from `from`.
template <class I>
struct Over {
  I tap, row, column, at;
};
// use(over, x) for each window over the element at p, where x is what is read of it, at(over).
template <int W, class T, class A, class I, class At, class Use>
ONEPASS_DEVICE void each_window(const Shape<A>& shape, const Place<I>& p, At at, Use use) {
  const Layout<I> out = shape.of_windows();
  auto down = windows_over(shape.rows, p.row);
  const auto beside = windows_over(shape.columns, p.column);
  const I before = beside.count - 1, column = beside.window - before * beside.window_step;
  const I last = beside.tap + before * beside.tap_step;
  ONEPASS_NO_UNROLL
  for (; down.count > 0; --down.count, down.tap += down.tap_step, down.window -= down.window_step) {
    const I tap = down.tap * shape.columns.kernel + last, row = down.window * out.row_step;
    const auto over = [&](I k) {
      const I j = column + k * beside.window_step;
      return Over<I>{tap - k * beside.tap_step, down.window, j, row + j * out.column_step};
    };
    each_unit(
        beside.count, [&](I k) { return fetch<W, T>(p.from, at(over(k))); },
        [&](I k, const Raw& raw) {
          T x[W];
          decode<W, T>(raw, p.from.dtype, x);
          use(over(k), x);
        });
  }
}
template <int W, class T, class A, class I, class Use>
ONEPASS_DEVICE void each_window(const Shape<A>& shape, const Place<I>& p, Use use) {
  each_window<W, T>(shape, p, [](const Over<I>& over) { return int64_t(over.at); }, use);
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
  const Windows& w;
  int64_t channel;
  ONEPASS_DEVICE void load(int64_t tap, T (&v)[W]) const {
    ONEPASS_UNROLL
    for (int k = 0; k < W; ++k)
      v[k] = load_element<T>(memory(w.weight), (channel + k) * taps_of(w) + tap);
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
  ONEPASS_DEVICE void load(int64_t tap, T (&v)[W]) const {
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
template <bool kBack, bool kWeighted>
struct Work {
  static constexpr bool back = kBack, weighted = kWeighted;
};

struct MaxPool : Work<false, false> {
  template <int W, class T, class A, class I, class K>
  static ONEPASS_DEVICE void result(const Windows& w, const Shape<A>& shape, const Place<I>& p,
                                    int64_t e, const K&, T (&y)[W]) {
    MaxPoolPick<T> pick[W];
    each_tap<W, T>(
        shape, p,
        [&](I tap, const T(&x)[W]) {
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
struct MaxPoolBackward : Work<true, false> {
  template <int W, class T, class A, class I, class K>
  static ONEPASS_DEVICE void result(const Windows& w, const Shape<A>& shape, const Place<I>& p,
                                    int64_t, const K&, T (&sum)[W]) {
    clear(sum);
    each_window<W, T>(shape, p, [&](const Over<I>& over, const T(&dy)[W]) {
      T picked[W];
      load_taps(w, p.first + over.at, picked);
      ONEPASS_UNROLL
      for (int k = 0; k < W; ++k) sum[k] += max_pool_gradient(dy[k], picked[k], T(over.tap));
    });
  }
};

template <class A>
ONEPASS_DEVICE int64_t counts(const Windows& w, const Shape<A>& shape, IndexOf<A> row,
                              IndexOf<A> column) {
  return int64_t(counted(shape.rows, row, w.count_padding)) *
         counted(shape.columns, column, w.count_padding);
}
struct AvgPool : Work<false, false> {
  template <int W, class T, class A, class I, class K>
  static ONEPASS_DEVICE void result(const Windows& w, const Shape<A>& shape, const Place<I>& p,
                                    int64_t, const K&, T (&y)[W]) {
    T sum[W], part[W];  // row by row, as on the CPU
    clear(sum);
    clear(part);
    each_tap<W, T>(
        shape, p, [&](I, const T(&x)[W]) { add(part, x); },
        [&] {
          add(sum, part);
          clear(part);
        });
    const T count = T(counts(w, shape, p.row, p.column));
    ONEPASS_UNROLL
    for (int k = 0; k < W; ++k) y[k] = sum[k] / count;
  }
};
struct AvgPoolBackward : Work<true, false> {
  template <int W, class T, class A, class I, class K>
  static ONEPASS_DEVICE void result(const Windows& w, const Shape<A>& shape, const Place<I>& p,
                                    int64_t, const K&, T (&sum)[W]) {
    clear(sum);
    each_window<W, T>(shape, p, [&](const Over<I>& over, const T(&dy)[W]) {
      const T count = T(counts(w, shape, over.row, over.column));
      ONEPASS_UNROLL
      for (int k = 0; k < W; ++k) sum[k] += dy[k] / count;
    });
  }
};

// Column by column, and in each from top to bottom, as on the CPU.
struct AdaptiveAvgPool : Work<false, false> {
  template <int W, class T, class A, class I, class K>
  static ONEPASS_DEVICE void result(const Windows& w, const Shape<A>& shape, const Place<I>& p,
                                    int64_t, const K&, T (&y)[W]) {
    const Layout<I> in = shape.of_elements();
    const Range down = part_of(w.rows.in, w.rows.out, p.row);
    const Range across = part_of(w.columns.in, w.columns.out, p.column);
    T sum[W];
    clear(sum);
    for (I j = I(across.begin); j < I(across.end); ++j) {
      const I at = I(down.begin) * in.row_step + j * in.column_step;
      T part[W];
      clear(part);
      each_unit(
          I(length(down)), [&](I i) { return fetch<W, T>(p.from, at + i * in.row_step); },
          [&](I, const Raw& raw) {
            T x[W];
            decode<W, T>(raw, p.from.dtype, x);
            add(part, x);
          });
      add(sum, part);
    }
    const T count = T(length(down) * length(across));
    ONEPASS_UNROLL
    for (int k = 0; k < W; ++k) y[k] = sum[k] / count;
  }
};
struct AdaptiveAvgPoolBackward : Work<true, false> {
  template <int W, class T, class A, class I, class K>
  static ONEPASS_DEVICE void result(const Windows& w, const Shape<A>& shape, const Place<I>& p,
                                    int64_t, const K&, T (&sum)[W]) {
    const Layout<I> out = shape.of_windows();
    const Range down = part_of(w.rows.out, w.rows.in, p.row);
    const Range across = part_of(w.columns.out, w.columns.in, p.column);
    clear(sum);
    for (I j = I(across.begin); j < I(across.end); ++j) {
      const int64_t width = length(part_of(w.columns.in, w.columns.out, j));
      const I at = I(down.begin) * out.row_step + j * out.column_step;
      T part[W];
      clear(part);
      each_unit(
          I(length(down)), [&](I i) { return fetch<W, T>(p.from, at + i * out.row_step); },
          [&](I i, const Raw& raw) {
            const int64_t height = length(part_of(w.rows.in, w.rows.out, down.begin + i));
            T dy[W];
            decode<W, T>(raw, p.from.dtype, dy);
            ONEPASS_UNROLL
            for (int k = 0; k < W; ++k) part[k] += dy[k] / T(height * width);
          });
      add(sum, part);
    }
  }
};

// Convolutions of each channel with its own kernel.
template <int W, class T, class K>
ONEPASS_DEVICE void add_product(const K& kernels, int64_t tap, const T (&x)[W], T (&sum)[W]) {
  T weight[W];
  kernels.load(tap, weight);
  ONEPASS_UNROLL
  for (int k = 0; k < W; ++k) sum[k] += weight[k] * x[k];
}
struct Depthwise : Work<false, true> {
  template <int W, class T, class A, class I, class K>
  static ONEPASS_DEVICE void result(const Windows&, const Shape<A>& shape, const Place<I>& p,
                                    int64_t, const K& kernels, T (&sum)[W]) {
    clear(sum);
    each_tap<W, T>(
        shape, p, [&](I tap, const T(&x)[W]) { add_product(kernels, tap, x, sum); }, [] {});
  }
};
struct DepthwiseBackward : Work<true, true> {
  template <int W, class T, class A, class I, class K>
  static ONEPASS_DEVICE void result(const Windows&, const Shape<A>& shape, const Place<I>& p,
                                    int64_t, const K& kernels, T (&sum)[W]) {
    clear(sum);
    each_window<W, T>(shape, p, [&](const Over<I>& over, const T(&dy)[W]) {
      add_product(kernels, over.tap, dy, sum);
    });
  }
};

struct Col2im : Work<true, false> {
  template <int W, class T, class A, class I, class K>
  static ONEPASS_DEVICE void result(const Windows& w, const Shape<A>& shape, const Place<I>& p,
                                    int64_t, const K&, T (&sum)[W]) {
    clear(sum);
    const int64_t all = taps_of(w), windows = w.rows.out * w.columns.out;
    const int64_t first = w.channels_last ? p.sample * windows * all * w.channels + p.channel
                                          : (p.channel * all * w.samples + p.sample) * windows;
    const int64_t by_tap = w.channels_last ? w.channels : w.samples * windows;
    const int64_t by_window = w.channels_last ? all * w.channels : 1;
    const auto at = [&](const Over<I>& over) {  // from p.first
      const int64_t window = int64_t(over.row) * w.columns.out + over.column;
      return first + over.tap * by_tap + window * by_window - p.first;
    };
    each_window<W, T>(shape, p, at, [&](const Over<I>&, const T(&x)[W]) { add(sum, x); });
  }
};

// C order: a thread has an element, and its neighbours those beside it.
template <class T, class W, class A>
__global__ void __launch_bounds__(kThreads)
    planes_kernel(const __grid_constant__ Windows w, int64_t elements) {
  const Shape<A> shape(w);
  const auto read = W::back ? shape.of_windows() : shape.of_elements();
  const auto written = W::back ? shape.of_elements() : shape.of_windows();
  using I = IndexOf<A>;
  for (int64_t e = int64_t(blockIdx.x) * kThreads + threadIdx.x; e < elements;
       e += int64_t(gridDim.x) * kThreads) {
    const Quotient beside = divide(e, written.columns), down = divide(beside.whole, written.rows);
    const Quotient plane = divide(down.whole, w.channels);
    const int64_t first = down.whole * read.image_step;
    const Place<I> p{plane.whole,    plane.rest, I(down.rest),
                     I(beside.rest), first,      from_of(w, first)};
    T y[1];
    W::template result<1, T>(w, shape, p, e, GivenWeights<1, T>{w, plane.rest}, y);
    store_unit<1, T>(memory(w.out, w.dtype), e, y);
  }
}

// The channels last: the channels are dealt out in parts of up to kThreads threads with W each; a
// block has a part, and its threads, after those of one position, neighbouring positions.
constexpr int kSharedWeights = 4096;  // values of a block
struct Part {
  int64_t channels, count;  // of a part (the last may have fewer), and how many parts
};
ONEPASS_HD Part parts_of(const Windows& w, int width, bool shared) {
  const int64_t room = shared ? kSharedWeights / (taps_of(w) * width) : kThreads;
  const int64_t channels = smaller(w.channels, width * smaller(room, kThreads));
  return {channels, ceil_div(w.channels, channels)};
}
template <int kWidth, class T, class W, class A, bool kShared>
__global__ void __launch_bounds__(kThreads, 2)
    channels_kernel(const __grid_constant__ Windows w, int64_t positions) {
  using Kernels = SharedWeights<kWidth, T>;
  ONEPASS_SHARED(typename Kernels::Piece, kept, [kShared ? kSharedWeights / Kernels::kPart : 1]);
  const Part part = parts_of(w, kWidth, kShared);
  const int64_t begin = int64_t(blockIdx.x) % part.count * part.channels;
  const int channels = int(smaller(part.channels, w.channels - begin));
  const int units = channels / kWidth, unit = int(threadIdx.x) % units;
  if constexpr (kShared) {
    const int all = int(taps_of(w));
    for (int i = int(threadIdx.x); i < all * channels; i += kThreads) {
      const int channel = i / all, to = i % all * channels + channel;
      kept[to / Kernels::kPart].value[to % Kernels::kPart] =
          load_element<T>(memory(w.weight), begin * all + i);
    }
    block_sync();
  }
  const Shape<A> shape(w);
  const auto read = W::back ? shape.of_windows() : shape.of_elements();
  const auto written = W::back ? shape.of_elements() : shape.of_windows();
  using I = IndexOf<A>;
  const int64_t channel = begin + unit * kWidth;
  const int together = kThreads / units, own = int(threadIdx.x) / units;
  if (own >= together) return;  // where units do not divide kThreads
  const int64_t step = int64_t(gridDim.x) / part.count * together;
  for (int64_t at = int64_t(blockIdx.x) / part.count * together + own; at < positions; at += step) {
    const Quotient beside = divide(at, written.columns), down = divide(beside.whole, written.rows);
    const int64_t first = down.whole * read.image_step + channel;
    const Place<I> p{down.whole, channel, I(down.rest), I(beside.rest), first, from_of(w, first)};
    const int64_t e = at * w.channels + channel;
    T y[kWidth];
    if constexpr (kShared) {
      const Kernels kernels{kept + unit * (kWidth / Kernels::kPart), channels / Kernels::kPart};
      W::template result<kWidth, T>(w, shape, p, e, kernels, y);
    } else {
      W::template result<kWidth, T>(w, shape, p, e, GivenWeights<kWidth, T>{w, channel}, y);
    }
    store_unit<kWidth, T>(memory(w.out, w.dtype), e, y);
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

template <int kWidth, class T, class W, class A, bool kShared>
void run_channels(const Windows& w, int64_t positions) {
  const Part part = parts_of(w, kWidth, kShared);
  const int64_t together = kThreads / ceil_div(part.channels, kWidth);
  const int64_t each = larger(1, kMostWindowBlocks / part.count);
  start(&channels_kernel<kWidth, T, W, A, kShared>,
        smaller(each, ceil_div(positions, together)) * part.count,
        static_cast<cudaStream_t>(w.stream), w, positions);
}
template <class T, class W>
void run_typed(const Windows& w) {
  const int64_t positions =
      w.samples * (W::back ? w.rows.in * w.columns.in : w.rows.out * w.columns.out);
  const int64_t elements = positions * w.channels;
  if (elements == 0) return;
  if (!w.channels_last)
    return start(is_short(w) ? &planes_kernel<T, W, ShortAxis> : &planes_kernel<T, W, WindowAxis>,
                 blocks_for(elements), static_cast<cudaStream_t>(w.stream), w, elements);
  // Eight channels' kernels must fit a block's shared memory.
  if (!is_short(w) || (W::weighted && taps_of(w) * 8 > kSharedWeights))
    return run_channels<1, T, W, WindowAxis, false>(w, positions);
  if constexpr (sizeof(T) == 4)
    if (w.dtype != DType::f32 && in_units<T>(w, 8))
      return run_channels<8, T, W, ShortAxis, W::weighted>(w, positions);
  if (in_units<T>(w, kUnit<T>))
    return run_channels<kUnit<T>, T, W, ShortAxis, W::weighted>(w, positions);
  run_channels<1, T, W, ShortAxis, W::weighted>(w, positions);
}
template <class W>
void run_windows(const Windows& w) {
  w.dtype == DType::f64 ? run_typed<double, W>(w) : run_typed<float, W>(w);
}

// A column of the image for each window: C order, (channels, taps, samples, windows), or
// (samples, windows, taps, channels).
template <int W, class T>
__global__ void __launch_bounds__(kThreads)
    im2col_kernel(const __grid_constant__ Windows w, int64_t units) {
  const Layout<int64_t> in = Shape<WindowAxis>(w).of_elements();
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
