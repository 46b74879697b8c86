// Max and average pooling of images, and what goes back.
#include "cpu/unit.h"
#include "cpu/window_floats.h"
#include "cpu/window_rows.h"
#include "kernels/max_pool.h"

ONEPASS_BEGIN
namespace windows {
namespace {

// ---- leaves

template <class S, class T>
[[gnu::always_inline]] inline void pick(S x, T tap, T* most, T* picked) {
  MaxPoolPick<T> now{*most, *picked};
  now.take(load_as<S, T>(x), tap);
  *most = now.most;
  *picked = now.tap;
}
template <class S, class T>
[[gnu::noinline]] void pick_run(int64_t n, const S* x, int64_t step, T tap, T* most, T* picked) {
  if (step == 1) {
#pragma GCC ivdep
    for (int64_t l = 0; l < n; ++l) pick(x[l], tap, most + l, picked + l);
  } else if (step == 2 && n >= 16) {  // as vectors
#pragma GCC ivdep
    for (int64_t l = 0; l < n; ++l) pick(x[2 * l], tap, most + l, picked + l);
  } else {
#pragma GCC ivdep
    for (int64_t l = 0; l < n; ++l) pick(x[l * step], tap, most + l, picked + l);
  }
}
template <class T>
[[gnu::noinline]] void add_picked(int64_t n, const T* dy, const T* picked, T tap, T* sum,
                                  int64_t step) {
  add_along(n, sum, step, [=](int64_t l) { return max_pool_gradient(dy[l], picked[l], tap); });
}
template <class S, class T>
[[gnu::noinline]] void gather_run(int64_t n, const S* x, int64_t step, T* sum) {
  if (step == 1) {
#pragma GCC ivdep
    for (int64_t l = 0; l < n; ++l) sum[l] += load_as<S, T>(x[l]);
  } else {
#pragma GCC ivdep
    for (int64_t l = 0; l < n; ++l) sum[l] += load_as<S, T>(x[l * step]);
  }
}
template <class T>
[[gnu::noinline]] void divide_run(int64_t n, T* sum, const T* divisors) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) sum[l] /= divisors[l];
}
template <bool kAdd, class S, class T>
[[gnu::noinline]] void share_run(int64_t n, const S* dy, T by, T* to) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    const T share = load_as<S, T>(dy[l]) / by;
    to[l] = kAdd ? to[l] + share : share;
  }
}
// The sums of rows of n elements, `width` apart, added up: several at a time, so that one addition
// need not wait for the one before it.
template <class S, class T>
[[gnu::noinline]] T add_rows(int64_t rows, int64_t n, const S* x, int64_t width) {
  constexpr int kTogether = 8;
  T sum = T(0);
  for (int64_t first = 0; first < rows; first += kTogether) {
    const S* at[kTogether];
    for (int64_t r = 0; r < kTogether; ++r) at[r] = x + smaller(first + r, rows - 1) * width;
    T a = T(0), b = a, c = a, d = a, e = a, f = a, g = a, h = a;  // as an array they are gathered
    for (int64_t i = 0; i < n; ++i) {
      a += load_as<S, T>(at[0][i]);
      b += load_as<S, T>(at[1][i]);
      c += load_as<S, T>(at[2][i]);
      d += load_as<S, T>(at[3][i]);
      e += load_as<S, T>(at[4][i]);
      f += load_as<S, T>(at[5][i]);
      g += load_as<S, T>(at[6][i]);
      h += load_as<S, T>(at[7][i]);
    }
    const T part[kTogether] = {a, b, c, d, e, f, g, h};
    for (int64_t r = 0; r < smaller(kTogether, rows - first); ++r) sum += part[r];
  }
  return sum;
}

// ---- works

template <class S>
struct Pool : Work<S> {
  using T = Computing<S>;
  static constexpr bool kByWindow = true;
  using Work<S>::Work;

 protected:
  // What windows (row, column) and its right neighbours are divided by.
  void divisors(int64_t row, int64_t column, int64_t n, T* to) const {
    const Windows& w = this->call;
    const bool padding = w.count_padding;
    const int64_t height = counted(w.rows, row, padding);
    if (w.channels_last || counts_alike(w.columns, padding)) {
      fill_run(to, n, T(height * counted(w.columns, column, padding)));
      return;
    }
    for (int64_t l = 0; l < n; ++l) to[l] = T(height * counted(w.columns, column + l, padding));
  }
};

template <class S>
struct MaxPool : Pool<S> {
  using T = Computing<S>;
  T picked[kLanes];
  using Pool<S>::Pool;

  void begin(int64_t n) {
    fill_run(this->sum, n, MaxPoolPick<T>{}.most);
    fill_run(picked, n, MaxPoolPick<T>{}.tap);
  }
  void take(const UnderTap& u) {
    pick_run(u.count, this->from(u.from), u.step, T(u.i * this->call.columns.kernel + u.j),
             this->sum + u.lane, picked + u.lane);
  }
  void finish(int64_t at, int64_t n, int64_t row, int64_t column) {
    Work<S>::finish(at, n, row, column);
    if (this->call.indices) store_run<T, T>(static_cast<T*>(this->call.indices) + at, picked, 1, n);
  }
};
template <class S>
struct MaxPoolBackward : Pool<S> {
  using T = Computing<S>;
  T loaded[kLanes];
  const T *dy = nullptr, *picked = nullptr;
  using Pool<S>::Pool;

  void load(const OverLine& o, int64_t) {
    picked = static_cast<const T*>(this->call.indices) + o.from;
    if constexpr (std::is_same_v<S, T>) {
      dy = this->from(o.from);
    } else {
      load_run<S, T>(loaded, this->from(o.from), 1, o.count);
      dy = loaded;
    }
  }
  void add_tap(const UnderTap& u) {
    add_picked(u.count, dy + u.from, picked + u.from, T(u.i * this->call.columns.kernel + u.j),
               this->sum + u.lane, u.step);
  }
  void add_window(int64_t k, int64_t i, int64_t j, int64_t count, int64_t lane, int64_t step) {
    const int64_t tap = int64_t(picked[k]) - i * this->call.columns.kernel - j;
    if (tap >= 0 && tap < count) this->sum[lane + tap * step] += dy[k];
  }
};

// Row by row of the window, so that the rounding of a large one grows with its rows and columns,
// not with their product.
template <class S>
struct AvgPool : Pool<S> {
  using T = Computing<S>;
  T part[kLanes];  // of the tap row in hand
  int64_t tap_row = 0, lanes = 0;
  using Pool<S>::Pool;

  void begin(int64_t n) {
    Work<S>::begin(n);
    fill_run(part, n, T(0));
    lanes = n;
    tap_row = 0;
  }
  void take(const UnderTap& u) {
    if (u.i != tap_row) end_row();
    tap_row = u.i;
    gather_run(u.count, this->from(u.from), u.step, part + u.lane);
  }
  void finish(int64_t at, int64_t n, int64_t row, int64_t column) {
    end_row();
    T by[kLanes];
    this->divisors(row, column, n, by);
    divide_run(n, this->sum, by);
    Work<S>::finish(at, n, row, column);
  }
  // A window in C order, in the same order of additions.
  void whole(const Line& line, int64_t column) {
    const Windows& w = this->call;
    const Range down = taps(w.rows, line.row), beside = taps(w.columns, column);
    const int64_t at =
        (line.plane * w.rows.in + element(w.rows, line.row, down.begin)) * w.columns.in +
        element(w.columns, column, beside.begin);
    this->sum[0] = add_rows<S, T>(down.end - down.begin, beside.end - beside.begin, this->from(at),
                                  w.columns.in);
    T by;
    this->divisors(line.row, column, 1, &by);
    this->sum[0] /= by;
    Work<S>::finish((line.plane * w.rows.out + line.row) * w.columns.out + column, 1, 0, 0);
  }

 private:
  void end_row() {
    add_run<T, T>(lanes, part, this->sum, 1);
    fill_run(part, lanes, T(0));
  }
};
template <class S>
struct AvgPoolBackward : Pool<S> {
  using T = Computing<S>;
  T shares[kLanes], divisor;
  const S* dy = nullptr;
  using Pool<S>::Pool;

  void load(const OverLine& o, int64_t) {
    const Windows& w = this->call;
    dy = this->from(o.from);
    if (w.channels_last || counts_alike(w.columns, w.count_padding)) {
      this->divisors(o.row, o.column, 1, &divisor);
      if (!w.channels_last) share_run<false>(o.count, dy, divisor, shares);
      return;
    }
    load_run<S, T>(shares, this->from(o.from), 1, o.count);
    T by[kLanes];
    this->divisors(o.row, o.column, o.count, by);
    divide_run(o.count, shares, by);
  }
  void add_tap(const UnderTap& u) {
    if (this->call.channels_last) return share_run<true>(u.count, dy, divisor, this->sum);
    add_run<T, T>(u.count, shares + u.from, this->sum + u.lane, u.step);
  }
  void add_window(int64_t k, int64_t, int64_t, int64_t count, int64_t lane, int64_t) {
    const T share = shares[k];
    for (int64_t l = lane; l < lane + count; ++l) this->sum[l] += share;
  }
};

// ---- averages of few wide windows in C order: window by window, as those of global pooling

template <class S>
void whole_task(void* context, int64_t index) {
  const Lines& all = *static_cast<const Lines*>(context);
  const Windows& w = *all.call;
  const int64_t first = index * all.each, end = smaller(all.lines, first + all.each);
  AvgPool<S> work(w);
  LineWalk walk(w, w.rows.out, w.columns.out, first);
  for (int64_t line = first; line < end; ++line, walk.next())
    for (int64_t column = 0; column < w.columns.out; ++column) work.whole(*walk, column);
}
// ---- few taps with the channels last: see window_rows.h

template <class S>
struct Few {
  using T = Computing<S>;
  static constexpr bool kReadsIndices = false;
  const Windows& call;

  explicit Few(const Windows& c) : call(c) {}
  const S* from(int64_t at) const { return static_cast<const S*>(call.from) + at; }
  S* out(int64_t at) const { return static_cast<S*>(call.out) + at; }
  T* indices(int64_t at) const { return static_cast<T*>(call.indices) + at; }
  int64_t channels_together() const { return call.channels; }
  T divisor(int64_t row, int64_t column) const {
    return T(counted(call.rows, row, call.count_padding) *
             counted(call.columns, column, call.count_padding));
  }
};

template <class S>
struct FewMaxPool : Few<S> {
  using T = S;
  using Few<S>::Few;

  template <int I, int J>
  void take(const Neighbours& n) const {
    T numbers[kFewTaps * kFewTaps];
    for (int i = 0; i < I; ++i)
      for (int j = 0; j < J; ++j) numbers[i * J + j] = T(n.tap + i * n.tap_down + j);
    this->call.indices ? pick<I, J, true>(n, numbers) : pick<I, J, false>(n, numbers);
  }

 private:
  template <int I, int J, bool kTaps>
  [[gnu::noinline]] void pick(const Neighbours& n, const T* numbers) const {
    const int64_t channels = n.channels;
    for (int64_t o = 0; o < n.count; ++o) {
      const S* const x = this->from(n.from + o * n.step);
      S* const y = this->out(n.to + o * n.to_step);
      T* const picked = kTaps ? this->indices(n.to + o * n.to_step) : nullptr;
#pragma GCC ivdep
      for (int64_t l = 0; l < channels; ++l) {
        MaxPoolPick<T> now;
        if constexpr (I > 0) now = {x[l], numbers[0]};
#pragma GCC unroll 9
        for (int k = 1; k < I * J; ++k)
          now.take_next(x[k / J * n.down + k % J * n.across + l], numbers[k]);
        y[l] = now.most;
        if (kTaps) picked[l] = now.tap;
      }
    }
  }
};

template <class S>
struct FewMaxPoolBackward : Few<S> {
  using T = S;
  static constexpr bool kReadsIndices = true;
  using Few<S>::Few;

  template <int I, int J>
  [[gnu::noinline]] void take(const Neighbours& n) const {
    T numbers[kFewTaps * kFewTaps];
    for (int i = 0; i < I; ++i)
      for (int j = 0; j < J; ++j) numbers[i * J + j] = T(n.tap + i * n.tap_down + j * n.tap_across);
    const int64_t channels = n.channels;
    for (int64_t o = 0; o < n.count; ++o) {
      const S* const dy = this->from(n.from + o * n.step);
      const T* const picked = this->indices(n.from + o * n.step);
      S* const dx = this->out(n.to + o * n.to_step);
#pragma GCC ivdep
      for (int64_t l = 0; l < channels; ++l) {
        T sum = T(0);
#pragma GCC unroll 9
        for (int k = 0; k < I * J; ++k) {
          const int64_t at = k / J * n.down + k % J * n.across + l;
          sum += max_pool_gradient(dy[at], picked[at], numbers[k]);
        }
        dx[l] = sum;
      }
    }
  }
};

template <class S>
struct FewAvgPool : Few<S> {
  using T = S;
  using Few<S>::Few;

  template <int I, int J>
  [[gnu::noinline]] void take(const Neighbours& n) const {
    const T by = this->divisor(n.row, n.column);
    const int64_t channels = n.channels;
    for (int64_t o = 0; o < n.count; ++o) {
      const S* const x = this->from(n.from + o * n.step);
      S* const y = this->out(n.to + o * n.to_step);
#pragma GCC ivdep
      for (int64_t l = 0; l < channels; ++l) {
        T sum = T(0);
#pragma GCC unroll 3
        for (int i = 0; i < I; ++i) {
          T part = T(0);
#pragma GCC unroll 3
          for (int j = 0; j < J; ++j) part += x[i * n.down + j * n.across + l];
          sum += part;
        }
        y[l] = sum / by;
      }
    }
  }
};

// The rows of windows over a row of the image are divided once, for as many channels as there is
// room for.
template <class S>
struct FewAvgPoolBackward : Few<S> {
  using T = Computing<S>;
  static constexpr int64_t kRoom = 2048, kLeast = 16;
  using Few<S>::Few;

  // Whether the shares of a row have room.
  static bool fits(const Windows& w) { return w.columns.out * kLeast <= kRoom; }
  int64_t channels_together() const {
    return smaller(this->call.channels, kRoom / this->call.columns.out / kLeast * kLeast);
  }

  template <int I, int J>
  void take(const Neighbours& n) {
    const T* at[kFewTaps] = {};
    for (int i = 0; i < I; ++i) at[i] = shares(n, n.row - i) + n.column * n.channels;
    add<I, J>(n, at);
  }

 private:
  template <int I, int J>
  [[gnu::noinline]] void add(const Neighbours& n, const T* const* from) const {
    const int64_t channels = n.channels;
    for (int64_t o = 0; o < n.count; ++o) {
      S* const dx = this->out(n.to + o * n.to_step);
      const T* at[kFewTaps];
      for (int i = 0; i < I; ++i) at[i] = from[i] + o * channels;
#pragma GCC ivdep
      for (int64_t l = 0; l < channels; ++l) {
        T sum = T(0);
#pragma GCC unroll 9
        for (int k = 0; k < I * J; ++k) sum += at[k / J][k % J * channels + l];
        dx[l] = store_as<S, T>(sum);
      }
    }
  }
  const T* shares(const Neighbours& n, int64_t row) {
    const int64_t slot = row % kFewTaps, line = n.plane * this->call.rows.out + row;
    T* const to = shares_ + slot * kRoom;
    if (channel_ != n.channel)
      for (int64_t& other : line_) other = -1;
    if (line_[slot] != line) divide(n, row, to);
    channel_ = n.channel;
    line_[slot] = line;
    return to;
  }
  void divide(const Neighbours& n, int64_t row, T* to) const {
    const Windows& w = this->call;
    const int64_t first = (n.plane * w.rows.out + row) * w.columns.out;
    for (int64_t o = 0; o < w.columns.out; ++o)
      share_run<false>(n.channels, this->from((first + o) * w.channels + n.channel),
                       this->divisor(row, o), to + o * n.channels);
  }

  T shares_[kFewTaps * kRoom];
  int64_t line_[kFewTaps] = {-1, -1, -1}, channel_ = 0;
};

template <template <class> class W, bool kBack>
void run_few_taps(const Windows& w) {
  by_dtype(w.dtype, [&](auto s) { run_few<FewOf<W, decltype(s)>, kBack>(w); });
}
template <template <class> class W, bool kBack>
void run_works(const Windows& w) {
  in_computing_type<kBack>(w, &run_work<W<double>, kBack>, &run_work<W<float>, kBack>);
}
void max_pool2d(const Windows& w) {
  few_taps<false>(w) ? run_few_taps<FewMaxPool, false>(w) : run_works<MaxPool, false>(w);
}
void max_pool2d_backward(const Windows& w) {
  few_taps<true>(w) ? run_few_taps<FewMaxPoolBackward, true>(w)
                    : run_works<MaxPoolBackward, true>(w);
}
void avg_pool2d(const Windows& w) {
  if (few_taps<false>(w)) return run_few_taps<FewAvgPool, false>(w);
  if (w.channels_last || w.columns.kernel < w.columns.out || w.columns.kernel < 4)
    return run_works<AvgPool, false>(w);
  by_dtype(w.dtype, [&](auto s) {
    run_lines(w, w.samples * w.channels * w.rows.out, w.columns.out * taps_of(w),
              &whole_task<decltype(s)>);
  });
}
// One window over an image in C order: its share everywhere.
template <class S>
void global_task(void* context, int64_t index) {
  using T = Computing<S>;
  const Lines& all = *static_cast<const Lines*>(context);
  const Windows& w = *all.call;
  const int64_t end = smaller(all.lines, (index + 1) * all.each), count = w.rows.in * w.columns.in;
  const T by = T(counted(w.rows, 0, w.count_padding) * counted(w.columns, 0, w.count_padding));
  for (int64_t plane = index * all.each; plane < end; ++plane) {
    const T share = load_as<S, T>(static_cast<const S*>(w.from)[plane]) / by;
    fill_run(static_cast<S*>(w.out) + plane * count, count, store_as<S, T>(T(0) + share));
  }
}
bool is_global(const Windows& w) {
  const auto covers = [](const WindowAxis& a) {
    return a.out == 1 && a.before == 0 && a.kernel >= a.in;
  };
  return !w.channels_last && covers(w.rows) && covers(w.columns);
}
void avg_pool2d_backward(const Windows& w) {
  if (is_global(w))
    return run_lines(w, w.samples * w.channels, w.rows.in * w.columns.in,
                     w.dtype == DType::f64   ? &global_task<double>
                     : w.dtype == DType::f32 ? &global_task<float>
                     : w.dtype == DType::f16 ? &global_task<Half>
                                             : &global_task<BFloat16>);
  if (!few_taps<true>(w) || !FewAvgPoolBackward<float>::fits(w))
    return run_works<AvgPoolBackward, true>(w);
  // It has the rows of windows in the computing type anyway.
  by_dtype(w.dtype, [&](auto s) { run_few<FewAvgPoolBackward<decltype(s)>, true>(w); });
}

}  // namespace
}  // namespace windows
ONEPASS_END

ONEPASS_CPU_UNIT(pools) {
  using namespace onepass::ONEPASS_ISA::windows;
  backend->max_pool2d = &max_pool2d;
  backend->max_pool2d_backward = &max_pool2d_backward;
  backend->avg_pool2d = &avg_pool2d;
  backend->avg_pool2d_backward = &avg_pool2d_backward;
}
