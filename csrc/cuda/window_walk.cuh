// How a thread walks over the windows of an image: the elements under a window, and the windows
// over an element, in W channels at once where those are last.
#pragma once
#include "core/windows.h"

#include "cuda/divide.cuh"
#include "cuda/launch.cuh"

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
// Nothing may overflow before a tap is found to be beside the image. Adaptive pools multiply sizes
// of an axis too.
inline bool is_short(const Windows& w, bool adaptive = false) {
  constexpr int64_t kMost = int64_t(1) << 30;
  const auto product_fits = [](const WindowAxis& a) {
    return larger(a.in, a.out) < kMost && a.in * a.out < kMost;
  };
  if (adaptive && !(product_fits(w.rows) && product_fits(w.columns))) return false;
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

// Which tap of a window was the largest, in the computing type.
template <class T>
constexpr DType kTapType = sizeof(T) == 8 ? DType::f64 : DType::f32;

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

}  // namespace
}  // namespace windows
ONEPASS_END
