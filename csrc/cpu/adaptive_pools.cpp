// Adaptive average pooling, and what goes back: sums of columns first, as vectors, then of those
// of a window.
#include "cpu/unit.h"
#include "cpu/window_lines.h"

ONEPASS_BEGIN
namespace windows {
namespace {

// part_of() window after window, with one division for all of them.
class Parts {
 public:
  Parts(int64_t extent, int64_t parts, int64_t first)
      : parts_(parts),
        step_(extent / parts),
        rest_(extent % parts),
        begin_(first * extent / parts),
        over_(first * extent % parts) {}
  Range operator*() const {
    const int64_t more = over_ + rest_;
    return {begin_, begin_ + step_ + (more > 0) + (more > parts_)};
  }
  void next() {
    begin_ += step_;
    over_ += rest_;
    if (over_ < parts_) return;
    over_ -= parts_;
    ++begin_;
  }

 private:
  int64_t parts_, step_, rest_, begin_, over_;  // first · extent = begin · parts + over
};

template <class S, class T>
[[gnu::noinline]] void add_quotients(int64_t n, const S* dy, T height, const T* widths, T* sum) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) sum[l] += load_as<S, T>(dy[l]) / (height * widths[l]);
}
// sum += the sum of rows, `apart` of each other, some lanes at a time in registers.
template <class S, class T>
[[gnu::noinline]] void add_column(int64_t n, int64_t rows, const S* x, int64_t apart, T* sum) {
  constexpr int kSome = 16;
  int64_t l = 0;
  for (; l + kSome <= n; l += kSome) {
    T part[kSome] = {};
    for (int64_t i = 0; i < rows; ++i)
      for (int k = 0; k < kSome; ++k) part[k] += load_as<S, T>(x[i * apart + l + k]);
    for (int k = 0; k < kSome; ++k) sum[l + k] += part[k];
  }
  for (; l < n; ++l) {
    T part = T(0);
    for (int64_t i = 0; i < rows; ++i) part += load_as<S, T>(x[i * apart + l]);
    sum[l] += part;
  }
}
template <class S, class T>
[[gnu::noinline]] void add_shares(int64_t n, const S* dy, T by, T* sum) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) sum[l] += load_as<S, T>(dy[l]) / by;
}
template <class T>
[[gnu::noinline]] void divide_all(int64_t n, T* sum, T by) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) sum[l] /= by;
}

template <class S>
struct AdaptiveAvgPool : Work<S> {
  using T = Computing<S>;
  T part[kLanes];  // sums of columns
  using Work<S>::Work;

  // A row of windows in C order.
  void row(const Line& line) {
    const WindowAxis &rows = this->call.rows, &columns = this->call.columns;
    const Range down = part_of(rows.in, rows.out, line.row);
    const int64_t to = (line.plane * rows.out + line.row) * columns.out;
    int64_t begin = 0, end = 0;  // the columns in `part`
    Parts parts(columns.in, columns.out, 0);
    for (int64_t first = 0; first < columns.out; first += kLanes) {
      const int64_t n = smaller(kLanes, columns.out - first);
      for (int64_t l = 0; l < n; ++l, parts.next()) {
        const Range across = *parts;
        T total = T(0);
        for (int64_t j = across.begin; j < across.end;) {
          if (j >= end) {
            begin = j;
            end = smaller(columns.in, j + kLanes);
            add_columns(line.plane, down, begin, end - begin);
          }
          for (const int64_t last = smaller(across.end, end); j < last; ++j)
            total += part[j - begin];
        }
        this->sum[l] = total / T(length(down) * length(across));
      }
      this->finish(to + first, n, 0, 0);
    }
  }
  // Some channels of a window, where they are last.
  void last(const Line& line, int64_t channel, int64_t n) {
    const Windows& w = this->call;
    const Range down = part_of(w.rows.in, w.rows.out, line.row);
    const Range across = part_of(w.columns.in, w.columns.out, line.column);
    this->begin(n);
    for (int64_t j = across.begin; j < across.end; ++j)
      add_column(n, length(down),
                 this->from(at(w.rows.in, w.columns.in, line.plane, down.begin, j) + channel),
                 w.columns.in * w.channels, this->sum);
    divide_all(n, this->sum, T(length(down) * length(across)));
    this->finish(at(w.rows.out, w.columns.out, line.plane, line.row, line.column) + channel, n, 0,
                 0);
  }

 protected:
  int64_t at(int64_t height, int64_t width, int64_t plane, int64_t row, int64_t column) const {
    return ((plane * height + row) * width + column) * this->call.channels;
  }

 private:
  void add_columns(int64_t plane, Range down, int64_t begin, int64_t n) {
    const WindowAxis &rows = this->call.rows, &columns = this->call.columns;
    fill_run(part, n, T(0));
    for (int64_t i = down.begin; i < down.end; ++i)
      add_run<S, T>(n, this->from((plane * rows.in + i) * columns.in + begin), part, 1);
  }
};

// Neighbours under the same windows have the same gradient, which is then `sum` still.
template <class S>
struct AdaptiveAvgPoolBackward : AdaptiveAvgPool<S> {
  using T = Computing<S>;
  T widths[kLanes], heights[kLanes];
  Range spans[kLanes];                            // of the windows of `widths`, the elements
  Range known{-1, -1};                            // these windows
  int64_t plane = -1, channels = -1, above = -1;  // `above`: the row of `down`
  Range down{-1, -1}, across{-1, -1};             // of `sum`

  explicit AdaptiveAvgPoolBackward(const Windows& w) : AdaptiveAvgPool<S>(w) {
    find_spans(0, smaller(kLanes, w.columns.out));
    Parts parts(w.rows.in, w.rows.out, 0);
    for (int64_t i = 0; i < smaller(kLanes, w.rows.out); ++i, parts.next())
      heights[i] = T(length(*parts));
  }

  // A row of the image in C order.
  void row(const Line& line) {
    const WindowAxis &rows = this->call.rows, &columns = this->call.columns;
    const bool same = covered(line, 0) && columns.in <= kLanes;
    for (int64_t first = 0; first < columns.in; first += kLanes) {
      const int64_t n = smaller(kLanes, columns.in - first);
      if (!same) {
        this->begin(n);
        const int64_t end = part_of(columns.out, columns.in, first + n - 1).end;
        for (int64_t o = part_of(columns.out, columns.in, first).begin; o < end; o += kLanes)
          add_windows(line, o, smaller(kLanes, end - o), first, n);
      }
      this->finish((line.plane * rows.in + line.row) * columns.in + first, n, 0, 0);
    }
  }
  // Some channels of an element, where they are last.
  void last(const Line& line, int64_t channel, int64_t n) {
    const WindowAxis &rows = this->call.rows, &columns = this->call.columns;
    const Range before = across;
    across = part_of(columns.out, columns.in, line.column);
    if (!covered(line, channel) || before.begin != across.begin || before.end != across.end) {
      this->begin(n);
      for (int64_t j = across.begin; j < across.end; ++j) {
        fill_run(this->part, n, T(0));
        const T width = extent(widths, columns, j);
        for (int64_t i = down.begin; i < down.end; ++i)
          add_shares(n, this->from(this->at(rows.out, columns.out, line.plane, i, j) + channel),
                     extent(heights, rows, i) * width, this->part);
        add_run<T, T>(n, this->part, this->sum, 1);
      }
    }
    this->finish(this->at(rows.in, columns.in, line.plane, line.row, line.column) + channel, n, 0,
                 0);
  }

 private:
  // Sets `down`; whether the rows of windows are those of the line before, and so the channels.
  bool covered(const Line& line, int64_t channel) {
    const WindowAxis& axis = this->call.rows;
    const Range rows = line.row == above ? down : part_of(axis.out, axis.in, line.row);
    above = line.row;
    const bool same = line.plane == plane && channel == channels && rows.begin == down.begin &&
                      rows.end == down.end;
    plane = line.plane;
    channels = channel;
    down = rows;
    return same;
  }
  // Of window i, from the table of the first ones where it is among them.
  T extent(const T* table, const WindowAxis& a, int64_t i) const {
    return a.out <= kLanes ? table[i] : T(length(part_of(a.in, a.out, i)));
  }
  void find_spans(int64_t first, int64_t windows) {
    if (known.begin == first && known.end == first + windows) return;
    known = {first, first + windows};
    Parts parts(this->call.columns.in, this->call.columns.out, first);
    for (int64_t l = 0; l < windows; ++l, parts.next()) {
      spans[l] = *parts;
      widths[l] = T(length(spans[l]));
    }
  }
  // The shares of `windows` windows from `first` on, to those of the `n` elements from `begin` on
  // that they cover.
  void add_windows(const Line& line, int64_t first, int64_t windows, int64_t begin, int64_t n) {
    const WindowAxis &rows = this->call.rows, &columns = this->call.columns;
    find_spans(first, windows);
    fill_run(this->part, windows, T(0));
    for (int64_t i = down.begin; i < down.end; ++i)
      add_quotients(windows, this->from((line.plane * rows.out + i) * columns.out + first),
                    extent(heights, rows, i), widths, this->part);
    for (int64_t l = 0; l < windows; ++l) {
      const int64_t end = smaller(spans[l].end - begin, n);
      for (int64_t j = larger(spans[l].begin - begin, 0); j < end; ++j)
        this->sum[j] += this->part[l];
    }
  }
};

template <class W, bool kBack>
void adaptive_task(void* context, int64_t index) {
  const Lines& all = *static_cast<const Lines*>(context);
  const Windows& w = *all.call;
  const int64_t first = index * all.each, end = smaller(all.lines, first + all.each);
  W work(w);
  LineWalk walk(w, kBack ? w.rows.in : w.rows.out, kBack ? w.columns.in : w.columns.out, first);
  for (int64_t line = first; line < end; ++line, walk.next()) {
    if (!w.channels_last) {
      work.row(*walk);
      continue;
    }
    for (int64_t c = 0; c < w.channels; c += kLanes)
      work.last(*walk, c, smaller(kLanes, w.channels - c));
  }
}
template <template <class> class W, bool kBack>
void run_adaptive(const Windows& w) {
  const int64_t height = kBack ? w.rows.in : w.rows.out;
  const int64_t width = kBack ? w.columns.in : w.columns.out;
  const int64_t lines = w.samples * height * (w.channels_last ? width : w.channels);
  // What a line reads, and for each window a step of Parts.
  const int64_t down = ceil_div(kBack ? w.rows.out : w.rows.in, larger(1, height));
  const int64_t across = ceil_div(kBack ? w.columns.out : w.columns.in, larger(1, width));
  const int64_t cost = w.channels_last ? w.channels * down * across
                                       : (kBack ? w.columns.out : w.columns.in) * down + width;
  by_dtype(w.dtype,
           [&](auto s) { run_lines(w, lines, cost, &adaptive_task<W<decltype(s)>, kBack>); });
}

}  // namespace
}  // namespace windows
ONEPASS_END

ONEPASS_CPU_UNIT(adaptive_pools) {
  using namespace onepass::ONEPASS_ISA::windows;
  backend->adaptive_avg_pool2d = &run_adaptive<AdaptiveAvgPool, false>;
  backend->adaptive_avg_pool2d_backward = &run_adaptive<AdaptiveAvgPoolBackward, true>;
}
