// Windows of a few taps with the channels last. The taps of a window are gathered in one turn, so
// that what they make stays in a register; neighbours along a row whose taps lie alike are one run.
// Values and the order of sums are those of window_lines.h. Elements of 16 bits are converted some
// neighbours at a time, for the works of floats.
#pragma once
#include "cpu/halves.h"
#include "cpu/window_lines.h"

ONEPASS_BEGIN
namespace windows {
namespace {

constexpr int64_t kFewTaps = 3;  // down, and across

// The channels [begin, end) of a task's lines at a time.
using Channels = Range;

// `count` neighbours of a row of the result, of which each gathers I by J positions.
struct Neighbours {
  int64_t count;
  int64_t from, step;    // the first element that the first gathers, and from one to the next
  int64_t down, across;  // from one that it gathers to the next
  int64_t to, to_step;
  int64_t tap, tap_down, tap_across;  // numbers of the taps between an element and its window
  int64_t plane, row, column;         // of the first window
  int64_t channel, channels;          // from which on, and how many
};

// Back, an element gathers stride by stride taps alike.
template <bool kBack>
bool few_taps(const Windows& w) {
  const WindowAxis &r = w.rows, &c = w.columns;
  return w.channels_last && r.kernel <= kFewTaps && c.kernel <= kFewTaps &&
         (!kBack || (r.dilation == 1 && c.dilation == 1));
}

// Pieces of n elements that lie `apart` in memory, side by side in scratch; and back.
template <class S>
[[gnu::noinline]] void load_pieces(const S* from, int64_t pieces, int64_t apart, int64_t n,
                                   float* to) {
  if (n == apart) n *= pieces, pieces = 1;
  for (; pieces > 0; --pieces, from += apart, to += n) {
    if constexpr (std::is_same_v<S, Half>) {
      load_halves(to, from, n);
    } else {
      load_run<S, float>(to, from, 1, n);
    }
  }
}
template <class S>
[[gnu::noinline]] void store_pieces(S* to, int64_t pieces, int64_t apart, int64_t n,
                                    const float* from) {
  if (n == apart) n *= pieces, pieces = 1;
  for (; pieces > 0; --pieces, to += apart, from += n) {
    if constexpr (std::is_same_v<S, Half>) {
      store_halves(to, from, n);
    } else {
      store_run<S, float>(to, from, 1, n);
    }
  }
}

// A work on floats, W, for elements of 16 bits. Its code is that of W, which is unrolled for every
// number of taps, and of two loops that convert.
template <class W, class S>
class Narrow {
 public:
  const Windows& call;

  explicit Narrow(const Windows& c) : call(c), lent_(c), work_(lent_) {
    lent_.from = taken_;
    lent_.out = made_;
    lent_.indices = !c.indices ? nullptr : W::kReadsIndices ? taken_indices_ : made_indices_;
  }
  int64_t channels_together() const { return smaller(call.channels, kTogether); }

  template <int I, int J>
  void take(const Neighbours& n) {
    // Columns that neighbours share are converted once, unless there are others between them.
    const bool dense = n.across == call.channels;
    const int64_t apart = dense ? call.channels : n.across, step = n.step / call.channels;
    const int64_t room = kRoom / (larger(1, I) * n.channels);  // columns
    const int64_t together = dense ? 1 + (room - larger(1, J)) / step : 1;
    for (int64_t o = 0; o < n.count; o += together) {
      Neighbours some = n;
      some.count = smaller(together, n.count - o);
      const int64_t columns = I * J == 0 ? 0 : (some.count - 1) * step + J;
      load(n, o, I, columns, apart);
      some.from = some.to = 0;
      some.step = step * n.channels;
      some.across = some.to_step = n.channels;
      some.down = columns * n.channels;
      work_.template take<I, J>(some);
      store(n, o, some.count);
    }
  }

 private:
  // Room for a window of so many channels, and some neighbours of fewer.
  static constexpr int64_t kTogether = 512, kRoom = kFewTaps * kFewTaps * kTogether;

  [[gnu::noinline]] void load(const Neighbours& n, int64_t o, int64_t rows, int64_t columns,
                              int64_t apart) {
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = n.from + o * n.step + i * n.down, to = i * columns * n.channels;
      load_pieces(static_cast<const S*>(call.from) + at, columns, apart, n.channels, taken_ + to);
      if (W::kReadsIndices)
        load_pieces(static_cast<const float*>(call.indices) + at, columns, apart, n.channels,
                    taken_indices_ + to);
    }
  }
  [[gnu::noinline]] void store(const Neighbours& n, int64_t o, int64_t count) const {
    const int64_t at = n.to + o * n.to_step;
    store_pieces(static_cast<S*>(call.out) + at, count, n.to_step, n.channels, made_);
    if (!W::kReadsIndices && call.indices)
      store_pieces(static_cast<float*>(call.indices) + at, count, n.to_step, n.channels,
                   made_indices_);
  }

  Windows lent_;  // the call as the work sees it
  W work_;
  float taken_[kRoom], made_[kRoom], taken_indices_[W::kReadsIndices ? kRoom : 1];
  float made_indices_[W::kReadsIndices ? 1 : kRoom];
};
template <template <class> class W, class S>
using FewOf = std::conditional_t<sizeof(S) == 2, Narrow<W<float>, S>, W<S>>;

template <int I, class W>
void take_columns(W* work, int64_t across, const Neighbours& n) {
  across == 3   ? work->template take<I, 3>(n)
  : across == 2 ? work->template take<I, 2>(n)
                : work->template take<I, 1>(n);
}
template <class W>
void take_neighbours(W* work, int64_t down, int64_t across, const Neighbours& n) {
  down == 0 || across == 0 ? work->template take<0, 0>(n)
  : down == 3              ? take_columns<3>(work, across, n)
  : down == 2              ? take_columns<2>(work, across, n)
                           : take_columns<1>(work, across, n);
}

// A row of windows; all taps of the windows of `inner` lie on columns of the image.
template <class W>
void few_forward(W* work, int64_t plane, int64_t row, const Range& inner, const Channels& part) {
  const Windows& w = work->call;
  const WindowAxis &rows = w.rows, &columns = w.columns;
  const int64_t channels = w.channels;
  const Range down = taps(rows, row);
  Neighbours n{};
  n.step = columns.stride * channels;
  n.to_step = channels;
  n.down = rows.dilation * columns.in * channels;
  n.across = columns.dilation * channels;
  n.tap_down = columns.kernel;
  n.tap_across = 1;
  n.plane = plane;
  n.row = row;
  n.channel = part.begin;
  n.channels = part.end - part.begin;
  for (int64_t o = 0; o < columns.out; o += n.count) {
    const Range beside = taps(columns, o);
    n.count = o == inner.begin && o < inner.end ? inner.end - o : 1;
    n.from = ((plane * rows.in + element(rows, row, down.begin)) * columns.in +
              element(columns, o, beside.begin)) *
                 channels +
             part.begin;
    n.to = ((plane * rows.out + row) * columns.out + o) * channels + part.begin;
    n.tap = down.begin * columns.kernel + beside.begin;
    n.column = o;
    take_neighbours(work, down.end - down.begin, beside.end - beside.begin, n);
  }
}
// A row of the image; the windows over the columns of `inner` lie alike from stride to stride.
template <class W>
void few_back(W* work, int64_t plane, int64_t row, const Range& inner, const Channels& part) {
  const Windows& w = work->call;
  const WindowAxis &rows = w.rows, &columns = w.columns;
  const int64_t channels = w.channels, stride = columns.stride;
  const Cover down = windows_over(rows, row);
  Neighbours n{};
  n.step = channels;
  n.down = -columns.out * channels;
  n.across = channels;
  n.tap_down = rows.stride * columns.kernel;
  n.tap_across = -stride;
  n.plane = plane;
  n.row = down.window;
  n.channel = part.begin;
  n.channels = part.end - part.begin;
  n.to_step = stride * channels;
  const auto take = [&](int64_t column, int64_t count) {
    const Cover beside = windows_over(columns, column);
    const int64_t before = beside.count - 1;
    n.count = count;
    n.column = beside.window - before;
    n.from = ((plane * rows.out + n.row) * columns.out + n.column) * channels + part.begin;
    n.to = ((plane * rows.in + row) * columns.in + column) * channels + part.begin;
    n.tap = down.tap * columns.kernel + beside.tap + before * stride;
    take_neighbours(work, down.count, beside.count, n);
  };
  for (int64_t v = 0; v < inner.begin; ++v) take(v, 1);
  for (int64_t v = inner.begin; v < smaller(inner.end, inner.begin + stride); ++v)
    take(v, ceil_div(inner.end - v, stride));
  for (int64_t v = inner.end; v < columns.in; ++v) take(v, 1);
}

// The columns whose neighbours are alike, or none.
template <bool kBack>
Range alike(const WindowAxis& a) {
  const int64_t extent = kBack ? a.in : a.out;
  const int64_t begin =
      kBack ? larger(0, a.kernel - 1 - a.before) : windows_on(a, 0, 0, a.in).begin;
  const int64_t end =
      kBack ? smaller(a.in, a.out * a.stride - a.before) : windows_on(a, a.kernel - 1, 0, a.in).end;
  return begin < end ? Range{begin, end} : Range{extent, extent};
}

template <class W, bool kBack>
void few_task(void* context, int64_t index) {
  const Lines& all = *static_cast<const Lines*>(context);
  const Windows& w = *all.call;
  const int64_t height = kBack ? w.rows.in : w.rows.out;
  const int64_t end = smaller(all.lines, (index + 1) * all.each);
  const Range inner = alike<kBack>(w.columns);
  W work(w);
  const int64_t together = work.channels_together();
  for (int64_t c = 0; c < w.channels; c += together) {
    const Channels part{c, smaller(c + together, w.channels)};
    for (int64_t line = index * all.each; line < end; ++line) {
      if constexpr (kBack) {
        few_back(&work, line / height, line % height, inner, part);
      } else {
        few_forward(&work, line / height, line % height, inner, part);
      }
    }
  }
}
template <class W, bool kBack>
void run_few(const Windows& w) {
  const int64_t height = kBack ? w.rows.in : w.rows.out;
  const int64_t width = kBack ? w.columns.in : w.columns.out;
  // Several taps take as long as one element elsewhere.
  const int64_t cost = width * w.channels * larger(1, taps_of(w) / 4);
  if (cost > 0) run_lines(w, w.samples * height, cost, &few_task<W, kBack>);
}

}  // namespace
}  // namespace windows
ONEPASS_END
