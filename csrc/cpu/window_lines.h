// How windows walk over images.
//
// A line is what lies side by side in memory: a row of a channel, or the channels of one position
// where they are last. Forward a line of windows gathers its taps; backward a line of the image
// gathers the windows over it, tap rows first to last and in each the taps last to first, so that
// every layout adds in one order.
#pragma once
#include "core/windows.h"

#include "cpu/blocks.h"
#include "cpu/parallel.h"

ONEPASS_BEGIN
namespace windows {
namespace {

constexpr int64_t kLanes = 256;  // of a line at a time

template <class S>
using Computing = std::conditional_t<sizeof(S) == 8, double, float>;

template <class T>
void fill_run(T* to, int64_t n, T value) {
  for (int64_t l = 0; l < n; ++l) to[l] = value;
}
// sum[l · step] += f(l)
template <class T, class F>
[[gnu::always_inline]] inline void add_along(int64_t n, T* sum, int64_t step, F f) {
  if (step == 1) {
#pragma GCC ivdep
    for (int64_t l = 0; l < n; ++l) sum[l] += f(l);
  } else {  // no constant step of 2: scattered stores are slower
#pragma GCC ivdep
    for (int64_t l = 0; l < n; ++l) sum[l * step] += f(l);
  }
}
template <class S, class T>
[[gnu::noinline]] void add_run(int64_t n, const S* x, T* sum, int64_t step) {
  add_along(n, sum, step, [x](int64_t l) { return load_as<S, T>(x[l]); });
}

// ---- tasks: so many lines each that the sizes alone decide

struct Lines {
  const Windows* call;
  int64_t lines, each;
};
// `cost` is that of a line, in elements.
inline void run_lines(const Windows& w, int64_t lines, int64_t cost, ChunkFn task) {
  Lines all{&w, lines, larger(1, kTaskElements / larger(1, cost))};
  const int64_t tasks = ceil_div(lines, all.each);
  if (tasks == 1) {
    task(&all, 0);
  } else if (tasks > 0) {
    parallel_for(tasks, task, &all);
  }
}

// A line: its plane (sample · channels + channel, or the sample where the channels are last), its
// row, and where the channels are last its column.
struct Line {
  int64_t plane, row, column;
};
// The lines from `first` on of images of that height and width.
class LineWalk {
 public:
  LineWalk(const Windows& w, int64_t height, int64_t width, int64_t first)
      : height_(height), columns_(w.channels_last ? width : 1) {
    now_.column = first % columns_;
    now_.row = first / columns_ % height;
    now_.plane = first / columns_ / height;
  }
  const Line& operator*() const { return now_; }
  void next() {
    if (++now_.column < columns_) return;
    now_.column = 0;
    if (++now_.row < height_) return;
    now_.row = 0;
    ++now_.plane;
  }

 private:
  int64_t height_, columns_;
  Line now_;
};

// For part of a line in C order, the windows whose tap j lies on it. Most lines are one part, so
// these are counted once.
class Across {
 public:
  // Of a line of windows: those of [begin, begin + n) whose tap lies on the image,
  void windows(const WindowAxis& a, int64_t begin, int64_t n) { set<false>(a, begin, n); }
  // and of a line of the image: those whose tap lies on [begin, begin + n).
  void image(const WindowAxis& a, int64_t begin, int64_t n) { set<true>(a, begin, n); }
  Range of_tap(const WindowAxis& a, int64_t j) const { return j < kKept ? kept_[j] : find(a, j); }
  // The windows over a row of the image, which many lines share where the channels are last.
  const Cover& rows_over(const WindowAxis& a, int64_t row) {
    if (row != row_) over_ = windows_over(a, row_ = row);
    return over_;
  }

 private:
  static constexpr int64_t kKept = 16;
  template <bool kImage>
  void set(const WindowAxis& a, int64_t begin, int64_t n) {
    if (begin == begin_ && n == n_) return;
    begin_ = begin;
    n_ = n;
    image_ = kImage;
    for (int64_t j = 0; j < smaller(a.kernel, kKept); ++j) kept_[j] = find(a, j);
  }
  Range find(const WindowAxis& a, int64_t j) const {
    if (image_) return windows_on(a, j, begin_, begin_ + n_);
    const Range o = windows_on(a, j, 0, a.in);
    return {larger(o.begin, begin_), smaller(o.end, begin_ + n_)};
  }

  int64_t begin_ = 0, n_ = -1, row_ = -1;
  Cover over_{};
  bool image_ = false;
  Range kept_[kKept];
};

// ---- works: what is done along a line. S is the storage type, T the computing one.

// Neighbours of a line under one tap: `count` windows, `step` apart in the image.
struct UnderTap {
  int64_t i, j;  // the tap's row and column in the window
  int64_t from;  // the first element
  int64_t lane, step, count;
};
// Neighbours among the windows, which part of a line of the image gathers.
struct OverLine {
  int64_t plane, row, column;  // of the first
  int64_t from, count;
};

template <class S>
struct Work {
  using T = Computing<S>;
  const Windows& call;
  T sum[kLanes];

  explicit Work(const Windows& c) : call(c) {}
  const S* from(int64_t at) const { return static_cast<const S*>(call.from) + at; }
  void begin(int64_t n) { fill_run(sum, n, T(0)); }
  void finish(int64_t at, int64_t n, int64_t /* row */, int64_t /* column */) {
    store_run<S, T>(static_cast<S*>(call.out) + at, sum, 1, n);
  }
};

// [begin, begin + n) of a line of windows.
template <class W>
void gather(W* work, const Line& line, Across* across, int64_t begin, int64_t n) {
  const Windows& w = work->call;
  const WindowAxis &rows = w.rows, &columns = w.columns;
  const Range down = taps(rows, line.row);
  work->begin(n);
  if (w.channels_last) {
    const Range inside = taps(columns, line.column);
    for (int64_t i = down.begin; i < down.end; ++i)
      for (int64_t j = inside.begin; j < inside.end; ++j) {
        const int64_t at = (line.plane * rows.in + element(rows, line.row, i)) * columns.in +
                           element(columns, line.column, j);
        work->take(UnderTap{i, j, at * w.channels + begin, 0, 1, n});
      }
    const int64_t at = (line.plane * rows.out + line.row) * columns.out + line.column;
    work->finish(at * w.channels + begin, n, line.row, line.column);
    return;
  }
  across->windows(columns, begin, n);
  for (int64_t i = down.begin; i < down.end; ++i) {
    const int64_t at = (line.plane * rows.in + element(rows, line.row, i)) * columns.in;
    for (int64_t j = 0; j < columns.kernel; ++j) {
      const Range o = across->of_tap(columns, j);
      if (o.begin < o.end)
        work->take(UnderTap{i, j, at + element(columns, o.begin, j), o.begin - begin,
                            columns.stride, o.end - o.begin});
    }
  }
  work->finish((line.plane * rows.out + line.row) * columns.out + begin, n, line.row, begin);
}

// A row of windows over [begin, begin + n) of a line of the image in C order, under tap row i: tap
// by tap, or, where the windows are few and wide, window by window.
template <class W>
void gather_row(W* work, int64_t plane, int64_t row, int64_t i, const Across& across, int64_t begin,
                int64_t n) {
  const Windows& w = work->call;
  const WindowAxis& columns = w.columns;
  // A tap that lies on the line for no window has an empty range, which may begin anywhere.
  const int64_t last = smaller(columns.out, across.of_tap(columns, 0).end);
  for (int64_t o = across.of_tap(columns, columns.kernel - 1).begin; o < last; o += kLanes) {
    const int64_t count = smaller(kLanes, last - o);
    work->load(OverLine{plane, row, o, (plane * w.rows.out + row) * columns.out + o, count}, i);
    if constexpr (W::kByWindow) {
      if (columns.kernel >= count) {
        for (int64_t k = 0; k < count; ++k) {
          const int64_t first = element(columns, o + k, 0), room = begin + n - first;
          const int64_t low = first >= begin ? 0 : steps_to(begin - first, columns.dilation);
          const int64_t high =
              room <= 0 ? 0 : smaller(columns.kernel, steps_to(room, columns.dilation));
          if (low < high)
            work->add_window(k, i, low, high - low, first + low * columns.dilation - begin,
                             columns.dilation);
        }
        continue;
      }
    }
    for (int64_t j = columns.kernel - 1; j >= 0; --j) {
      const Range on = across.of_tap(columns, j);
      const int64_t low = larger(on.begin, o), high = smaller(on.end, o + count);
      if (low < high)
        work->add_tap(
            UnderTap{i, j, low - o, element(columns, low, j) - begin, columns.stride, high - low});
    }
  }
}

// [begin, begin + n) of a line of the image.
template <class W>
void gather_back(W* work, const Line& line, Across* across, int64_t begin, int64_t n) {
  const Windows& w = work->call;
  const WindowAxis &rows = w.rows, &columns = w.columns;
  work->begin(n);
  Cover down = across->rows_over(rows, line.row);
  if (w.channels_last) {
    const Cover beside = windows_over(columns, line.column);
    for (; down.count > 0; --down.count, down.tap += down.tap_step, down.window -= down.window_step)
      for (int64_t k = beside.count - 1; k >= 0; --k) {
        const int64_t column = beside.window - k * beside.window_step;
        const int64_t at = (line.plane * rows.out + down.window) * columns.out + column;
        work->load(OverLine{line.plane, down.window, column, at * w.channels + begin, n}, down.tap);
        work->add_tap(UnderTap{down.tap, beside.tap + k * beside.tap_step, 0, 0, 1, n});
      }
    const int64_t at = (line.plane * rows.in + line.row) * columns.in + line.column;
    work->finish(at * w.channels + begin, n, 0, 0);
    return;
  }
  across->image(columns, begin, n);
  for (; down.count > 0; --down.count, down.tap += down.tap_step, down.window -= down.window_step)
    gather_row(work, line.plane, down.window, down.tap, *across, begin, n);
  work->finish((line.plane * rows.in + line.row) * columns.in + begin, n, 0, 0);
}

template <class W, bool kBack>
void lines_task(void* context, int64_t index) {
  const Lines& all = *static_cast<const Lines*>(context);
  const Windows& w = *all.call;
  const int64_t first = index * all.each, end = smaller(all.lines, first + all.each);
  const int64_t height = kBack ? w.rows.in : w.rows.out;
  const int64_t width = kBack ? w.columns.in : w.columns.out;
  const int64_t extent = w.channels_last ? w.channels : width;
  W work(w);
  Across across;
  LineWalk walk(w, height, width, first);
  for (int64_t line = first; line < end; ++line, walk.next())
    for (int64_t at = 0; at < extent; at += kLanes) {
      const int64_t n = smaller(kLanes, extent - at);
      if constexpr (kBack) {
        gather_back(&work, *walk, &across, at, n);
      } else {
        gather(&work, *walk, &across, at, n);
      }
    }
}
template <class W, bool kBack>
void run_work(const Windows& w) {
  const int64_t height = kBack ? w.rows.in : w.rows.out;
  const int64_t width = kBack ? w.columns.in : w.columns.out;
  const int64_t lines = w.samples * height * (w.channels_last ? width : w.channels);
  const int64_t extent = w.channels_last ? w.channels : width;
  // Backward an element is under taps / strides windows.
  const int64_t covered = kBack ? larger(1, taps_of(w) / (w.rows.stride * w.columns.stride)) : 0;
  if (extent > 0)
    run_lines(w, lines, extent * (kBack ? covered : taps_of(w)), &lines_task<W, kBack>);
}
// f(a value of the storage type).
template <class F>
void by_dtype(DType dtype, F f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::f16:
      return f(Half{});
    case DType::bf16:
      return f(BFloat16{});
  }
}
template <template <class> class W, bool kBack>
void run_windows(const Windows& w) {
  by_dtype(w.dtype, [&](auto s) { run_work<W<decltype(s)>, kBack>(w); });
}

}  // namespace
}  // namespace windows
ONEPASS_END
