// Windows over images: im2col, max and average pooling, and what goes back.
//
// A line is what lies side by side in memory: a row of a channel, or the channels of one position
// where they are last. Loops run along it. Forward a line of windows gathers its taps; backward a
// line of the image gathers the windows that cover it, tap rows first to last and in each the taps
// last to first, so that every layout adds in one order.
#include "core/windows.h"

#include "cpu/blocks.h"
#include "cpu/parallel.h"
#include "cpu/unit.h"
#include "kernels/max_pool.h"

ONEPASS_BEGIN
namespace windows {
namespace {

constexpr int64_t kLanes = 256;  // of a line at a time
constexpr int64_t kTaskElements = 32 << 10;

template <class S>
using Computing = std::conditional_t<sizeof(S) == 8, double, float>;

// Neighbours of a line under one tap: `count` elements, `step` apart in the image and one by one
// among the windows, or the same backward.
struct Run {
  int64_t tap;
  int64_t plane;        // sample · channels + channel, or the sample where the channels are last
  int64_t row, column;  // of the first window
  int64_t from;         // the first element that is read
  int64_t lane, step, count;
};

template <class S, class T>
[[gnu::noinline]] void pick_run(int64_t n, const S* x, int64_t step, T tap, T* most, T* picked) {
  if (step == 1) {
#pragma GCC ivdep
    for (int64_t l = 0; l < n; ++l) {
      MaxPoolPick<T> pick{most[l], picked[l]};
      pick.take(load_as<S, T>(x[l]), tap);
      most[l] = pick.most;
      picked[l] = pick.tap;
    }
    return;
  }
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    MaxPoolPick<T> pick{most[l], picked[l]};
    pick.take(load_as<S, T>(x[l * step]), tap);
    most[l] = pick.most;
    picked[l] = pick.tap;
  }
}
template <class S, class T>
[[gnu::noinline]] void add_run(int64_t n, const S* x, int64_t step, T* sum) {
  if (step == 1) {
#pragma GCC ivdep
    for (int64_t l = 0; l < n; ++l) sum[l] += load_as<S, T>(x[l]);
    return;
  }
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) sum[l] += load_as<S, T>(x[l * step]);
}
template <class S, class T>
[[gnu::noinline]] void add_to_run(int64_t n, const S* x, T* sum, int64_t step) {
  if (step == 1) return add_run(n, x, 1, sum);
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) sum[l * step] += load_as<S, T>(x[l]);
}
template <class S, class T>
[[gnu::noinline]] void add_picked(int64_t n, const S* dy, const T* picked, T tap, T* sum,
                                  int64_t step) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l)
    sum[l * step] += max_pool_gradient(load_as<S, T>(dy[l]), picked[l], tap);
}
template <class S, class T>
[[gnu::noinline]] void add_shares(int64_t n, const S* dy, const T* counts, T* sum, int64_t step) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) sum[l * step] += load_as<S, T>(dy[l]) / counts[l];
}
template <class T>
[[gnu::noinline]] void divide_run(int64_t n, T* sum, const T* counts) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) sum[l] /= counts[l];
}
template <class T>
void fill_run(T* to, int64_t n, T value) {
  for (int64_t l = 0; l < n; ++l) to[l] = value;
}

// ---- works: what is done to the taps of a line. S is the storage type, T the computing one.

template <class S>
struct Work {
  using T = Computing<S>;
  const Windows& call;
  T sum[kLanes];

  explicit Work(const Windows& c) : call(c) {}
  const S* from(int64_t at) const { return static_cast<const S*>(call.from) + at; }
  void begin(int64_t n) { fill_run(sum, n, T(0)); }
  void finish(int64_t at, int64_t n, int64_t, int64_t) {
    store_run<S, T>(static_cast<S*>(call.out) + at, sum, 1, n);
  }

 protected:
  // The divisors of n windows along a line, of which (row, column) is the first.
  void count(int64_t row, int64_t column, int64_t n, T* counts) const {
    const bool padding = call.count_padding;
    const int64_t height = counted(call.rows, row, padding);
    if (call.channels_last || counts_alike(call.columns, padding)) {
      fill_run(counts, n, T(height * counted(call.columns, column, padding)));
      return;
    }
    for (int64_t l = 0; l < n; ++l)
      counts[l] = T(height * counted(call.columns, column + l, padding));
  }
};

template <class S>
struct MaxPool : Work<S> {
  using T = Computing<S>;
  T picked[kLanes];

  explicit MaxPool(const Windows& c) : Work<S>(c) {}
  void begin(int64_t n) {
    fill_run(this->sum, n, MaxPoolPick<T>{}.most);
    fill_run(picked, n, MaxPoolPick<T>{}.tap);
  }
  void take(const Run& r) {
    pick_run(r.count, this->from(r.from), r.step, T(r.tap), this->sum + r.lane, picked + r.lane);
  }
  void finish(int64_t at, int64_t n, int64_t row, int64_t column) {
    Work<S>::finish(at, n, row, column);
    if (this->call.indices) store_run<T, T>(static_cast<T*>(this->call.indices) + at, picked, 1, n);
  }
};
template <class S>
struct MaxPoolBackward : Work<S> {
  using T = Computing<S>;
  explicit MaxPoolBackward(const Windows& c) : Work<S>(c) {}
  void take(const Run& r) {
    add_picked(r.count, this->from(r.from), static_cast<const T*>(this->call.indices) + r.from,
               T(r.tap), this->sum + r.lane, r.step);
  }
};

// Row by row of the window, so that the rounding of a large one grows with its rows and columns,
// not with their product.
template <class S>
struct AvgPool : Work<S> {
  using T = Computing<S>;
  T part[kLanes];  // of the tap row in hand
  int64_t tap_row = 0, lanes = 0;

  explicit AvgPool(const Windows& c) : Work<S>(c) {}
  void begin(int64_t n) {
    Work<S>::begin(n);
    fill_run(part, n, T(0));
    lanes = n;
    tap_row = 0;
  }
  void take(const Run& r) {
    const int64_t row = r.tap / this->call.columns.kernel;
    if (row != tap_row) end_row();
    tap_row = row;
    add_run(r.count, this->from(r.from), r.step, part + r.lane);
  }
  void finish(int64_t at, int64_t n, int64_t row, int64_t column) {
    end_row();
    T counts[kLanes];
    this->count(row, column, n, counts);
    divide_run(n, this->sum, counts);
    Work<S>::finish(at, n, row, column);
  }

 private:
  void end_row() {
    add_run<T, T>(lanes, part, 1, this->sum);
    fill_run(part, lanes, T(0));
  }
};
template <class S>
struct AvgPoolBackward : Work<S> {
  using T = Computing<S>;
  explicit AvgPoolBackward(const Windows& c) : Work<S>(c) {}
  void take(const Run& r) {
    T counts[kLanes];
    this->count(r.row, r.column, r.count, counts);
    add_shares(r.count, this->from(r.from), counts, this->sum + r.lane, r.step);
  }
};

template <class S>
struct Col2im : Work<S> {
  explicit Col2im(const Windows& c) : Work<S>(c) {}
  void take(const Run& r) {
    const Windows& w = this->call;
    const int64_t taps = taps_of(w);
    int64_t at = r.from;
    if (w.channels_last) {
      const int64_t channel = at % w.channels;
      at = ((at - channel) * taps) + r.tap * w.channels + channel;
    } else {
      const int64_t sample = r.plane / w.channels, channel = r.plane % w.channels;
      const int64_t count = w.rows.out * w.columns.out;
      at = ((channel * taps + r.tap) * w.samples + sample) * count + at - r.plane * count;
    }
    add_to_run(r.count, this->from(at), this->sum + r.lane, r.step);
  }
};

// ---- lines

// Lines of windows: [begin, begin + n) of a line.
template <class W>
void gather(W* work, int64_t line, int64_t begin, int64_t n) {
  const Windows& w = work->call;
  const WindowAxis &rows = w.rows, &columns = w.columns;
  work->begin(n);
  if (w.channels_last) {
    const int64_t column = line % columns.out, above = line / columns.out;
    const int64_t row = above % rows.out, sample = above / rows.out;
    const Range down = taps(rows, row), across = taps(columns, column);
    for (int64_t i = down.begin; i < down.end; ++i)
      for (int64_t j = across.begin; j < across.end; ++j) {
        const int64_t at =
            (sample * rows.in + element(rows, row, i)) * columns.in + element(columns, column, j);
        work->take(
            Run{i * columns.kernel + j, sample, row, column, at * w.channels + begin, 0, 1, n});
      }
    work->finish(line * w.channels + begin, n, row, column);
    return;
  }
  const int64_t row = line % rows.out, plane = line / rows.out;
  const Range down = taps(rows, row);
  for (int64_t i = down.begin; i < down.end; ++i)
    for (int64_t j = 0; j < columns.kernel; ++j) {
      Range o = windows_on(columns, j, 0, columns.in);
      o = {larger(o.begin, begin), smaller(o.end, begin + n)};
      if (o.begin >= o.end) continue;
      const int64_t at =
          (plane * rows.in + element(rows, row, i)) * columns.in + element(columns, o.begin, j);
      work->take(Run{i * columns.kernel + j, plane, row, o.begin, at, o.begin - begin,
                     columns.stride, o.end - o.begin});
    }
  work->finish(line * columns.out + begin, n, row, begin);
}

// Lines of the image.
template <class W>
void gather_back(W* work, int64_t line, int64_t begin, int64_t n) {
  const Windows& w = work->call;
  const WindowAxis &rows = w.rows, &columns = w.columns;
  work->begin(n);
  if (w.channels_last) {
    const int64_t v = line % columns.in, above = line / columns.in;
    const int64_t u = above % rows.in, sample = above / rows.in;
    for (int64_t i = 0; i < rows.kernel; ++i) {
      const int64_t row = window_at(rows, u, i);
      for (int64_t j = row < 0 ? -1 : columns.kernel - 1; j >= 0; --j) {
        const int64_t column = window_at(columns, v, j);
        if (column < 0) continue;
        const int64_t at = (sample * rows.out + row) * columns.out + column;
        work->take(
            Run{i * columns.kernel + j, sample, row, column, at * w.channels + begin, 0, 1, n});
      }
    }
    work->finish(line * w.channels + begin, n, 0, 0);
    return;
  }
  const int64_t u = line % rows.in, plane = line / rows.in;
  for (int64_t i = 0; i < rows.kernel; ++i) {
    const int64_t row = window_at(rows, u, i);
    for (int64_t j = row < 0 ? -1 : columns.kernel - 1; j >= 0; --j) {
      const Range o = windows_on(columns, j, begin, begin + n);
      if (o.begin >= o.end) continue;
      const int64_t at = (plane * rows.out + row) * columns.out + o.begin;
      work->take(Run{i * columns.kernel + j, plane, row, o.begin, at,
                     element(columns, o.begin, j) - begin, columns.stride, o.end - o.begin});
    }
  }
  work->finish(line * columns.in + begin, n, 0, 0);
}

// ---- tasks: so many lines each that the sizes alone decide

struct Lines {
  const Windows* call;
  int64_t lines, each;
};
// `cost` is that of a line.
void run_lines(const Windows& w, int64_t lines, int64_t cost, ChunkFn task) {
  Lines all{&w, lines, larger(1, kTaskElements / larger(1, cost))};
  const int64_t tasks = ceil_div(lines, all.each);
  if (tasks == 1) {
    task(&all, 0);
  } else if (tasks > 0) {
    parallel_for(tasks, task, &all);
  }
}

template <class W, bool kBack>
void lines_task(void* context, int64_t index) {
  const Lines& all = *static_cast<const Lines*>(context);
  const Windows& w = *all.call;
  const int64_t end = smaller(all.lines, (index + 1) * all.each);
  const int64_t extent = w.channels_last ? w.channels : kBack ? w.columns.in : w.columns.out;
  W work(w);
  for (int64_t line = index * all.each; line < end; ++line)
    for (int64_t at = 0; at < extent; at += kLanes) {
      const int64_t n = smaller(kLanes, extent - at);
      kBack ? gather_back(&work, line, at, n) : gather(&work, line, at, n);
    }
}
template <class W, bool kBack>
void run_work(const Windows& w) {
  const int64_t height = kBack ? w.rows.in : w.rows.out;
  const int64_t width = kBack ? w.columns.in : w.columns.out;
  const int64_t lines = w.samples * height * (w.channels_last ? width : w.channels);
  const int64_t extent = w.channels_last ? w.channels : width;
  if (extent > 0) run_lines(w, lines, extent * taps_of(w), &lines_task<W, kBack>);
}
template <template <class> class W, bool kBack>
void run_windows(const Windows& w) {
  switch (w.dtype) {
    case DType::f32:
      return run_work<W<float>, kBack>(w);
    case DType::f64:
      return run_work<W<double>, kBack>(w);
    case DType::f16:
      return run_work<W<Half>, kBack>(w);
    case DType::bf16:
      return run_work<W<BFloat16>, kBack>(w);
  }
}

// ---- im2col: copies, of elements of any type of that size

template <class S>
void copy_run(S* to, const S* from, int64_t step, int64_t n) {
  if (step == 1) {
    __builtin_memcpy(to, from, size_t(n) * sizeof(S));
  } else {
    for (int64_t l = 0; l < n; ++l) to[l] = from[l * step];
  }
}
template <class S>
void zero_run(S* to, int64_t n) {
  if (n > 0) __builtin_memset(to, 0, size_t(n) * sizeof(S));
}

// A row of windows, with the channels last: neighbouring taps without dilation are one run.
template <class S>
void copy_row(const Windows& w, int64_t line) {
  const WindowAxis &rows = w.rows, &columns = w.columns;
  const int64_t row = line % rows.out, sample = line / rows.out;
  const int64_t channels = w.channels, across = columns.kernel * channels;
  const S* const image = static_cast<const S*>(w.from) + sample * rows.in * columns.in * channels;
  S* to = static_cast<S*>(w.out) + line * columns.out * rows.kernel * across;
  for (int64_t o = 0; o < columns.out; ++o) {
    const Range inside = taps(columns, o);
    for (int64_t i = 0; i < rows.kernel; ++i, to += across) {
      const int64_t u = element(rows, row, i);
      if (u < 0 || u >= rows.in) {
        zero_run(to, across);
        continue;
      }
      const S* const from = image + (u * columns.in + element(columns, o, 0)) * channels;
      zero_run(to, inside.begin * channels);
      if (columns.dilation == 1) {
        copy_run(to + inside.begin * channels, from + inside.begin * channels, 1,
                 (inside.end - inside.begin) * channels);
      } else {
        for (int64_t j = inside.begin; j < inside.end; ++j)
          copy_run(to + j * channels, from + j * columns.dilation * channels, 1, channels);
      }
      zero_run(to + inside.end * channels, (columns.kernel - inside.end) * channels);
    }
  }
}
// One tap of all windows of a channel of a sample.
template <class S>
void copy_tap(const Windows& w, int64_t line) {
  const WindowAxis &rows = w.rows, &columns = w.columns;
  const int64_t sample = line % w.samples, above = line / w.samples;
  const int64_t tap = above % taps_of(w), channel = above / taps_of(w);
  const int64_t i = tap / columns.kernel, j = tap % columns.kernel;
  const S* const plane =
      static_cast<const S*>(w.from) + (sample * w.channels + channel) * rows.in * columns.in;
  S* to = static_cast<S*>(w.out) + line * rows.out * columns.out;
  const Range inside = windows_on(columns, j, 0, columns.in);
  for (int64_t row = 0; row < rows.out; ++row, to += columns.out) {
    const int64_t u = element(rows, row, i);
    if (u < 0 || u >= rows.in || inside.begin == inside.end) {
      zero_run(to, columns.out);
      continue;
    }
    zero_run(to, inside.begin);
    copy_run(to + inside.begin, plane + u * columns.in + element(columns, inside.begin, j),
             columns.stride, inside.end - inside.begin);
    zero_run(to + inside.end, columns.out - inside.end);
  }
}
template <class S>
void copy_task(void* context, int64_t index) {
  const Lines& all = *static_cast<const Lines*>(context);
  const int64_t end = smaller(all.lines, (index + 1) * all.each);
  for (int64_t line = index * all.each; line < end; ++line)
    all.call->channels_last ? copy_row<S>(*all.call, line) : copy_tap<S>(*all.call, line);
}
void im2col(const Windows& w) {
  const int64_t windows = w.rows.out * w.columns.out, taps = taps_of(w);
  const int64_t lines = w.samples * (w.channels_last ? w.rows.out : w.channels * taps);
  const int64_t cost = w.channels_last ? w.columns.out * taps * w.channels : windows;
  const int64_t size = size_of(w.dtype);
  run_lines(w, cost == 0 ? 0 : lines, cost,
            size == 8   ? &copy_task<uint64_t>
            : size == 4 ? &copy_task<uint32_t>
                        : &copy_task<uint16_t>);
}

// ---- col2im with the channels last and no dilation: neighbouring taps are one run

template <class T>
void add_row(const Windows& w, int64_t line) {
  const WindowAxis &rows = w.rows, &columns = w.columns;
  const int64_t u = line % rows.in, sample = line / rows.in, channels = w.channels;
  T* const to = static_cast<T*>(w.out) + line * columns.in * channels;
  zero_run(to, columns.in * channels);
  for (int64_t i = 0; i < rows.kernel; ++i) {
    const int64_t row = window_at(rows, u, i);
    if (row < 0) continue;
    const T* from =
        static_cast<const T*>(w.from) +
        ((sample * rows.out + row) * columns.out * rows.kernel + i) * columns.kernel * channels;
    for (int64_t o = 0; o < columns.out; ++o, from += taps_of(w) * channels) {
      const Range inside = taps(columns, o);
      if (inside.begin < inside.end)
        add_run((inside.end - inside.begin) * channels, from + inside.begin * channels, 1,
                to + element(columns, o, inside.begin) * channels);
    }
  }
}
template <class T>
void add_task(void* context, int64_t index) {
  const Lines& all = *static_cast<const Lines*>(context);
  const int64_t end = smaller(all.lines, (index + 1) * all.each);
  for (int64_t line = index * all.each; line < end; ++line) add_row<T>(*all.call, line);
}
void col2im(const Windows& w) {
  const bool stored = w.dtype == DType::f16 || w.dtype == DType::bf16;
  if (!w.channels_last || w.columns.dilation != 1 || stored) return run_windows<Col2im, true>(w);
  if (w.channels == 0) return;
  run_lines(w, w.samples * w.rows.in, w.columns.in * w.channels * taps_of(w),
            w.dtype == DType::f64 ? &add_task<double> : &add_task<float>);
}

}  // namespace
}  // namespace windows
ONEPASS_END

ONEPASS_CPU_UNIT(windows) {
  using namespace onepass::ONEPASS_ISA::windows;
  backend->im2col = &im2col;
  backend->col2im = &col2im;
  backend->max_pool2d = &run_windows<MaxPool, false>;
  backend->max_pool2d_backward = &run_windows<MaxPoolBackward, true>;
  backend->avg_pool2d = &run_windows<AvgPool, false>;
  backend->avg_pool2d_backward = &run_windows<AvgPoolBackward, true>;
}
