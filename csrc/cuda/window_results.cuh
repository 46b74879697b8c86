// What an element of the result of each kernel over windows is made of, first to last.
// (The CPU adds a depthwise gradient of stride 1 last to first: cpu/depthwise.cpp.)
#pragma once
#include "cuda/window_walk.cuh"
#include "kernels/max_pool.h"

ONEPASS_BEGIN
namespace windows {
namespace {

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

// Which tap of a window was the largest.
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
// the first. `back`: the result is an image, and what is read has a value for each window;
// `adaptive`: windows are parts of the axes (part_of).
template <bool kBack, bool kWeighted>
struct Work {
  static constexpr bool back = kBack, weighted = kWeighted, adaptive = false;
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
  static constexpr bool adaptive = true;
  template <int W, class T, class A, class I, class K>
  static ONEPASS_DEVICE void result(const Windows&, const Shape<A>& shape, const Place<I>& p,
                                    int64_t, const K&, T (&y)[W]) {
    const Layout<I> in = shape.of_elements();
    const auto down = part_of<I>(shape.rows.in, shape.rows.out, p.row);
    const auto across = part_of<I>(shape.columns.in, shape.columns.out, p.column);
    T sum[W];
    clear(sum);
    for (I j = across.begin; j < across.end; ++j) {
      const I at = down.begin * in.row_step + j * in.column_step;
      T part[W];
      clear(part);
      each_unit(
          length(down), [&](I i) { return fetch<W, T>(p.from, at + i * in.row_step); },
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
  static constexpr bool adaptive = true;
  template <int W, class T, class A, class I, class K>
  static ONEPASS_DEVICE void result(const Windows&, const Shape<A>& shape, const Place<I>& p,
                                    int64_t, const K&, T (&sum)[W]) {
    const Layout<I> out = shape.of_windows();
    const auto down = part_of<I>(shape.rows.out, shape.rows.in, p.row);
    const auto across = part_of<I>(shape.columns.out, shape.columns.in, p.column);
    clear(sum);
    for (I j = across.begin; j < across.end; ++j) {
      const I width = length(part_of<I>(shape.columns.in, shape.columns.out, j));
      const I at = down.begin * out.row_step + j * out.column_step;
      T part[W];
      clear(part);
      each_unit(
          length(down), [&](I i) { return fetch<W, T>(p.from, at + i * out.row_step); },
          [&](I i, const Raw& raw) {
            const I height = length(part_of<I>(shape.rows.in, shape.rows.out, down.begin + i));
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

}  // namespace
}  // namespace windows
ONEPASS_END
