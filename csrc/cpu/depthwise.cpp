// The convolution of each channel with a kernel of its own, and its gradients.
//
// An output adds its taps in their order. The gradient of the image does so too with a stride of 1,
// since it is the convolution of dy with the kernel turned round; else it gathers the windows over
// an element, in the order of window_lines.h. A weight's gradient adds kTermsTogether terms at most
// in the computing type, then in double. Elements of 16 bits are converted, so many images at a
// time that their floats stay in the caches.
#include "cpu/unit.h"
#include "cpu/window_floats.h"
#include "cpu/window_rows.h"

ONEPASS_BEGIN
namespace windows {
namespace {

// ---- lanes in a register

template <class T, int64_t kWidth>
struct Wide {
  typedef T Type __attribute__((vector_size(kWidth * sizeof(T))));
  Type lanes{};

  [[gnu::always_inline]] void load(const T* from) { __builtin_memcpy(&lanes, from, sizeof lanes); }
  [[gnu::always_inline]] void store(T* to) const { __builtin_memcpy(to, &lanes, sizeof lanes); }
  [[gnu::always_inline]] void fill(T value) { lanes = value - Type{}; }  // of -0 too
  [[gnu::always_inline]] void add(const Wide& by, const T* x) {
    Wide loaded;
    loaded.load(x);
    lanes += by.lanes * loaded.lanes;
  }
  [[gnu::always_inline]] void add_to(double* sums) const {
    typedef double Doubles __attribute__((vector_size(kWidth * sizeof(double))));
    Doubles sum;
    __builtin_memcpy(&sum, sums, sizeof sum);
    sum += __builtin_convertvector(lanes, Doubles);
    __builtin_memcpy(sums, &sum, sizeof sum);
  }
};

// ---- forward

// sum += Σ x of K taps · weights, one tap after another. Elements are kStep apart, or `step` where
// it is 0; taps `apart`. Each lane has weights of its own, `weights_apart`, or all have the same.
template <int K, int kStep, bool kOwn, class T>
[[gnu::noinline]] void add_taps(int64_t n, const T* x, int64_t step, int64_t apart,
                                const T* weights, int64_t weights_apart, T* sum) {
  if (kStep != 0) step = kStep;
  T same[K];
  for (int k = 0; k < K; ++k) same[k] = weights[k * weights_apart];
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    T s = sum[l];
    for (int k = 0; k < K; ++k)
      s += (kOwn ? weights[k * weights_apart + l] : same[k]) * x[l * step + k * apart];
    sum[l] = s;
  }
}
template <int kStep, bool kOwn, class T>
void add_taps_of(int64_t taps, int64_t n, const T* x, int64_t step, int64_t apart, const T* weights,
                 int64_t weights_apart, T* sum) {
  for (; taps >= 3; taps -= 3, x += 3 * apart, weights += 3 * weights_apart)
    add_taps<3, kStep, kOwn>(n, x, step, apart, weights, weights_apart, sum);
  if (taps == 2) add_taps<2, kStep, kOwn>(n, x, step, apart, weights, weights_apart, sum);
  if (taps == 1) add_taps<1, kStep, kOwn>(n, x, step, apart, weights, weights_apart, sum);
}

// y = Σ x of I rows of 3 taps · weights, kStep from one element to the next.
template <int I, int kStep, class T>
[[gnu::noinline]] void three_across(int64_t n, const T* x, int64_t down, int64_t across,
                                    const T* weights, T* y) {
  T by[I * 3];
  for (int k = 0; k < I * 3; ++k) by[k] = weights[k];
  constexpr int64_t kBlock = 16;
  if (kStep == 1 && n >= kBlock) {  // the last block covers part of the one before it again
    Wide<T, kBlock> wide[I * 3];
    for (int k = 0; k < I * 3; ++k) wide[k].fill(by[k]);
    for (int64_t end = kBlock, last = 0; !last; end += kBlock) {
      last = end >= n;
      const int64_t l = last ? n - kBlock : end - kBlock;
      Wide<T, kBlock> sum;
#pragma GCC unroll 9
      for (int k = 0; k < I * 3; ++k) sum.add(wide[k], x + l + k / 3 * down + k % 3 * across);
      sum.store(y + l);
    }
    return;
  }
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    T sum = T(0);
#pragma GCC unroll 9
    for (int k = 0; k < I * 3; ++k) sum += by[k] * x[l * kStep + k / 3 * down + k % 3 * across];
    y[l] = sum;
  }
}

template <class T>
struct Depthwise : Work<T> {
  using Work<T>::Work;
  // (channels, taps), or (taps, channels) where those are last.
  const T* weights() const { return static_cast<const T*>(this->call.workspace); }

  void last(const Line& line, int64_t begin, int64_t n) {
    const Windows& w = this->call;
    const WindowAxis &rows = w.rows, &columns = w.columns;
    const Range down = taps(rows, line.row), beside = taps(columns, line.column);
    this->begin(n);
    for (int64_t i = down.begin; i < down.end && beside.begin < beside.end; ++i) {
      const int64_t at = (line.plane * rows.in + element(rows, line.row, i)) * columns.in +
                         element(columns, line.column, beside.begin);
      add_taps_of<1, true>(beside.end - beside.begin, n, this->from(at * w.channels + begin), 1,
                           columns.dilation * w.channels,
                           weights() + (i * columns.kernel + beside.begin) * w.channels + begin,
                           w.channels, this->sum);
    }
    const int64_t at = (line.plane * rows.out + line.row) * columns.out + line.column;
    this->finish(at * w.channels + begin, n, 0, 0);
  }

  // Windows that lie on the image as a whole go side by side, those at its edges one by one.
  void row(const Line& line, const Range& inner, int64_t begin, int64_t n) {
    const Windows& w = this->call;
    const WindowAxis &rows = w.rows, &columns = w.columns;
    const int64_t end = begin + n;
    const int64_t low = smaller(larger(inner.begin, begin), end);
    const int64_t high = larger(smaller(inner.end, end), low);
    const Range down = taps(rows, line.row);
    if (columns.kernel == 3 && columns.stride <= 2 && low < high) {
      if (down.end - down.begin == 3) return three_columns<3>(line, down, begin, low, high, end);
      if (down.end - down.begin == 2) return three_columns<2>(line, down, begin, low, high, end);
    }
    this->begin(n);
    for (int64_t i = down.begin; i < down.end; ++i) {
      const T* const x =
          this->from((line.plane * rows.in + element(rows, line.row, i)) * columns.in);
      const T* const by = weights() + (line.plane % w.channels) * taps_of(w) + i * columns.kernel;
      for (int64_t o = begin; o < low; ++o) add_edge(x, by, o, begin);
      if (low < high) {
        const T* const at = x + element(columns, low, 0);
        T* const to = this->sum + low - begin;
        const int64_t apart = columns.dilation;
        columns.stride == 1
            ? add_taps_of<1, false>(columns.kernel, high - low, at, 1, apart, by, 1, to)
        : columns.stride == 2
            ? add_taps_of<2, false>(columns.kernel, high - low, at, 2, apart, by, 1, to)
            : add_taps_of<0, false>(columns.kernel, high - low, at, columns.stride, apart, by, 1,
                                    to);
      }
      for (int64_t o = high; o < end; ++o) add_edge(x, by, o, begin);
    }
    this->finish((line.plane * rows.out + line.row) * columns.out + begin, n, 0, 0);
  }

 private:
  // The same of 3 columns and I rows in one turn. [low, high) lies on the image as a whole.
  template <int I>
  void three_columns(const Line& line, const Range& down, int64_t begin, int64_t low, int64_t high,
                     int64_t end) const {
    const Windows& w = this->call;
    const WindowAxis &rows = w.rows, &columns = w.columns;
    const int64_t below = rows.dilation * columns.in;
    const T* const x =
        this->from((line.plane * rows.in + element(rows, line.row, down.begin)) * columns.in);
    T* const y = static_cast<T*>(w.out) + (line.plane * rows.out + line.row) * columns.out;
    const T* const by = weights() + (line.plane % w.channels) * taps_of(w) + down.begin * 3;
    const auto edge = [&](int64_t o) {
      const Range inside = taps(columns, o);
      const int64_t count = inside.end - inside.begin;
      const T* const at = x + element(columns, o, inside.begin);
      y[o] = count == 2   ? some_taps<I, 2>(at, below, columns.dilation, by + inside.begin)
             : count == 1 ? some_taps<I, 1>(at, below, columns.dilation, by + inside.begin)
                          : some_taps<I, 0>(at, below, columns.dilation, by);
    };
    for (int64_t o = begin; o < low; ++o) edge(o);
    const auto inner = columns.stride == 1 ? &three_across<I, 1, T> : &three_across<I, 2, T>;
    inner(high - low, x + element(columns, low, 0), below, columns.dilation, by, y + low);
    for (int64_t o = high; o < end; ++o) edge(o);
  }
  template <int I, int J>
  [[gnu::always_inline]] static T some_taps(const T* x, int64_t down, int64_t across,
                                            const T* weights) {
    T sum = T(0);
#pragma GCC unroll 3
    for (int i = 0; i < I; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < J; ++j) sum += weights[i * 3 + j] * x[i * down + j * across];
    return sum;
  }
  void add_edge(const T* x, const T* by, int64_t o, int64_t begin) {
    const WindowAxis& columns = this->call.columns;
    const Range inside = taps(columns, o);
    T s = this->sum[o - begin];
    for (int64_t j = inside.begin; j < inside.end; ++j) s += by[j] * x[element(columns, o, j)];
    this->sum[o - begin] = s;
  }
};

template <class T>
void forward_task(void* context, int64_t index) {
  const Lines& all = *static_cast<const Lines*>(context);
  const Windows& w = *all.call;
  const WindowAxis& columns = w.columns;
  const int64_t first = index * all.each, end = smaller(all.lines, first + all.each);
  const int64_t extent = w.channels_last ? w.channels : columns.out;
  const Range inner = {windows_on(columns, 0, 0, columns.in).begin,
                       windows_on(columns, columns.kernel - 1, 0, columns.in).end};
  Depthwise<T> work(w);
  LineWalk walk(w, w.rows.out, columns.out, first);
  for (int64_t line = first; line < end; ++line, walk.next())
    for (int64_t at = 0; at < extent; at += kLanes) {
      const int64_t n = smaller(kLanes, extent - at);
      w.channels_last ? work.last(*walk, at, n) : work.row(*walk, inner, at, n);
    }
}

// ---- the gradient of the image with any stride

template <class T>
struct DepthwiseBackward : Work<T> {
  static constexpr bool kByWindow = false;
  OverLine over{};
  using Work<T>::Work;

  void load(const OverLine& o, int64_t) { over = o; }
  void add_tap(const UnderTap& u) {
    const Windows& w = this->call;
    const T* const weights = static_cast<const T*>(w.workspace);
    const int64_t tap = u.i * w.columns.kernel + u.j;
    const T* const dy = this->from(over.from + u.from);
    if (w.channels_last) {
      const int64_t channel = over.from % w.channels;
      add_taps<1, 1, true>(u.count, dy, 1, 0, weights + tap * w.channels + channel, 0, this->sum);
    } else {
      scale_run(u.count, dy, weights[(over.plane % w.channels) * taps_of(w) + tap],
                this->sum + u.lane, u.step);
    }
  }

 private:
  [[gnu::noinline]] static void scale_run(int64_t n, const T* dy, T by, T* sum, int64_t step) {
    add_along(n, sum, step, [=](int64_t l) { return by * dy[l]; });
  }
};

// ---- few taps with the channels last, forward and back: see window_rows.h

template <class T>
struct FewDepthwise {
  const Windows& call;

  explicit FewDepthwise(const Windows& c) : call(c) {}
  int64_t channels_together() const { return call.channels; }

  template <int I, int J>
  [[gnu::noinline]] void take(const Neighbours& n) const {
    const T* by[kFewTaps * kFewTaps];
    for (int k = 0; k < I * J; ++k)
      by[k] = static_cast<const T*>(call.workspace) +
              (n.tap + k / J * n.tap_down + k % J * n.tap_across) * call.channels;
    for (int64_t o = 0; o < n.count; ++o) {
      const T* const x = static_cast<const T*>(call.from) + n.from + o * n.step;
      T* const y = static_cast<T*>(call.out) + n.to + o * n.to_step;
#pragma GCC ivdep
      for (int64_t l = 0; l < n.channels; ++l) {
        T sum = T(0);
#pragma GCC unroll 9
        for (int k = 0; k < I * J; ++k) sum += by[k][l] * x[k / J * n.down + k % J * n.across + l];
        y[l] = sum;
      }
    }
  }
};

// ---- both: the weights in the computing type, side by side as their lines need them

template <class T>
void prepare(const Windows& w, bool turned) {
  constexpr int64_t kSome = 64;
  T* const to = static_cast<T*>(w.workspace);
  const int64_t all = taps_of(w);
  for (int64_t c = 0; c < w.channels; ++c)
    for (int64_t first = 0; first < all; first += kSome) {
      double weights[kSome];
      const int64_t n = smaller(kSome, all - first);
      load_channels(w.weight, c * all + first, n, 0, weights);
      for (int64_t k = 0; k < n; ++k) {
        const int64_t tap = first + k, seen = turned ? all - 1 - tap : tap;
        to[w.channels_last ? seen * w.channels + c : c * all + seen] = T(weights[k]);
      }
    }
}
template <class T>
void run_forward(const Windows& w) {
  if (few_taps<false>(w)) return run_few<FewDepthwise<T>, false>(w);
  const int64_t extent = w.channels_last ? w.channels : w.columns.out;
  if (extent == 0) return;
  const int64_t lines = w.samples * w.rows.out * (w.channels_last ? w.columns.out : w.channels);
  run_lines(w, lines, extent * taps_of(w), &forward_task<T>);
}
template <class T>
void forward(const Windows& w) {
  prepare<T>(w, false);
  run_forward<T>(w);
}
WindowAxis turned(const WindowAxis& a) {
  WindowAxis t = a;
  t.in = a.out;
  t.out = a.in;
  t.before = a.dilation * (a.kernel - 1) - a.before;
  return t;
}
template <class T>
void backward(const Windows& w) {
  const bool turns = w.rows.stride == 1 && w.columns.stride == 1;
  prepare<T>(w, turns);
  if (!turns && few_taps<true>(w)) return run_few<FewDepthwise<T>, true>(w);
  if (!turns) return run_work<DepthwiseBackward<T>, true>(w);
  Windows convolution = w;
  convolution.rows = turned(w.rows);
  convolution.columns = turned(w.columns);
  run_forward<T>(convolution);
}

// ---- the gradient of the weights: a task has some taps of a row of the kernel, of one channel or,
// where they are last, of some.

constexpr int64_t kTapsTogether = 8;  // taps of a task
constexpr int64_t kDotLanes = 8;

// Adds dy · x to lanes; n at most kTermsTogether of a lane.
template <class T>
[[gnu::noinline]] void add_products(int64_t n, const T* dy, const T* x, int64_t step, T* lanes) {
  T sum[kDotLanes];
  for (int l = 0; l < kDotLanes; ++l) sum[l] = lanes[l];
  int64_t i = 0;
  const auto add_blocks = [&](int64_t by) {
    for (; i + kDotLanes <= n; i += kDotLanes)
      for (int l = 0; l < kDotLanes; ++l) sum[l] += dy[i + l] * x[(i + l) * by];
  };
  step == 1 ? add_blocks(1) : step == 2 ? add_blocks(2) : add_blocks(step);
  for (int l = 0; i + l < n; ++l) lanes[l] = sum[l] + dy[i + l] * x[(i + l) * step];
  for (int64_t l = n - i; l < kDotLanes; ++l) lanes[l] = sum[l];
}
// The same of three taps, over rows that lie `dy_row` and `x_row` apart: lanes in registers. Of
// what lies behind a row less than kDotLanes windows are read.
template <class T, int kStep>
struct ThreeDots {
  using Lanes = Wide<T, kDotLanes>;
  Lanes number, sum[3];

  explicit ThreeDots(const T (*lanes)[kDotLanes]) {
    T numbers[kDotLanes];
    for (int l = 0; l < kDotLanes; ++l) numbers[l] = T(l);
    number.load(numbers);
    for (int j = 0; j < 3; ++j) sum[j].load(lanes[j]);
  }
  [[gnu::always_inline]] void add(int64_t n, const T* dy, const T* x, Lanes* to) const {
    int64_t i = 0;
    Lanes given, loaded, left;
    for (; i + kDotLanes <= n; i += kDotLanes) {
      given.load(dy + i);
      load_x(x + i * kStep, &loaded);
      to->lanes += given.lanes * loaded.lanes;
    }
    if (i >= n) return;
    given.load(dy + i);
    load_x(x + i * kStep, &loaded);
    left.fill(T(n - i));
    // Not by a product with 0: what lies behind a row may be infinite.
    given.lanes = number.lanes < left.lanes ? given.lanes : typename Lanes::Type{};
    loaded.lanes = number.lanes < left.lanes ? loaded.lanes : typename Lanes::Type{};
    to->lanes += given.lanes * loaded.lanes;
  }

 private:
  [[gnu::always_inline]] static void load_x(const T* x, Lanes* to) {
    T values[kDotLanes];
    for (int l = 0; l < kDotLanes; ++l) values[l] = x[l * kStep];
    to->load(values);
  }
};
template <int kStep, class T>
[[gnu::noinline]] void add_three_products(int64_t rows, const Range* inside, const T* dy,
                                          int64_t dy_row, const T* x, int64_t begin, int64_t x_row,
                                          int64_t apart, T (*lanes)[kDotLanes]) {
  ThreeDots<T, kStep> dots(lanes);
  auto first = dots.sum[0], second = dots.sum[1], third = dots.sum[2];
  for (int64_t r = 0; r < rows; ++r, dy += dy_row, begin += x_row) {
    const auto add = [&](int64_t j, auto* to) {
      const int64_t o = inside[j].begin;
      dots.add(inside[j].end - o, dy + o, x + (begin + o * kStep + j * apart), to);
    };
    add(0, &first);
    add(1, &second);
    add(2, &third);
  }
  first.store(lanes[0]);
  second.store(lanes[1]);
  third.store(lanes[2]);
}

template <class T>
void weight_of_channel(const Windows& w, int64_t channel, int64_t i, int64_t first, int64_t count) {
  const WindowAxis &rows = w.rows, &columns = w.columns;
  double sums[kTapsTogether] = {};
  T lanes[kTapsTogether][kDotLanes] = {};
  Range inside[kTapsTogether];
  for (int64_t j = 0; j < count; ++j) inside[j] = windows_on(columns, first + j, 0, columns.in);
  const Range down = windows_on(rows, i, 0, rows.in);
  const auto fold = [&] {
    for (int64_t j = 0; j < count; ++j)
      for (T& lane : lanes[j]) {
        sums[j] += double(lane);
        lane = T(0);
      }
  };
  const int64_t of_row = ceil_div(columns.out, kDotLanes);
  const bool three = count == 3 && columns.stride <= 2 && of_row <= kTermsTogether;
  // Whether the array goes on behind that line of it for as long as add_three_products may read.
  const auto readable = [&](int64_t height, int64_t width, int64_t line) {
    return (line + 1) * width + kDotLanes * columns.stride <=
           w.samples * w.channels * height * width;
  };
  int64_t terms = 0;
  for (int64_t n = 0; n < w.samples; ++n)
    for (int64_t row = down.begin; row < down.end; ++row) {
      const int64_t plane = n * w.channels + channel;
      if (three) {
        if (terms + of_row > kTermsTogether) {
          fold();
          terms = 0;
        }
        const int64_t together = smaller((kTermsTogether - terms) / of_row, down.end - row);
        const int64_t last = row + together - 1;
        const int64_t of_x = plane * rows.in + element(rows, last, i);
        if (readable(w.rows.out, w.columns.out, plane * rows.out + last) &&
            readable(w.rows.in, w.columns.in, of_x)) {
          const auto add =
              columns.stride == 1 ? &add_three_products<1, T> : &add_three_products<2, T>;
          add(together, inside,
              static_cast<const T*>(w.dy) + (plane * rows.out + row) * columns.out, columns.out,
              static_cast<const T*>(w.from) + plane * rows.in * columns.in,
              element(rows, row, i) * columns.in + element(columns, 0, first),
              rows.stride * columns.in, columns.dilation, lanes);
          terms += together * of_row;
          row = last;
          continue;
        }
      }
      const T* const dy = static_cast<const T*>(w.dy) + (plane * rows.out + row) * columns.out;
      const T* const x =
          static_cast<const T*>(w.from) + (plane * rows.in + element(rows, row, i)) * columns.in;
      for (int64_t at = 0; at < columns.out; at += kTermsTogether * kDotLanes) {
        const int64_t part = smaller(kTermsTogether * kDotLanes, columns.out - at);
        const int64_t more = ceil_div(part, kDotLanes);
        if (terms + more > kTermsTogether) {
          fold();
          terms = 0;
        }
        terms += more;
        for (int64_t j = 0; j < count; ++j) {
          const int64_t low = larger(inside[j].begin, at);
          const int64_t high = smaller(inside[j].end, at + part);
          if (low < high)
            add_products<T>(high - low, dy + low, x + element(columns, low, first + j),
                            columns.stride, lanes[j]);
        }
      }
    }
  fold();
  for (int64_t j = 0; j < count; ++j)
    static_cast<T*>(w.out)[channel * taps_of(w) + i * columns.kernel + first + j] = T(sums[j]);
}

// sums += Σ dy · x over n windows, n at most kTermsTogether.
template <bool kWhole, class T>
[[gnu::noinline]] void add_channels(int64_t n, int64_t channels, const T* dy, int64_t dy_apart,
                                    const T* x, int64_t x_apart, double* sums) {
  if (kWhole) channels = kChannelLanes;
  T sum[kChannelLanes] = {};
  for (int64_t i = 0; i < n; ++i, dy += dy_apart, x += x_apart) {
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c) sum[c] += dy[c] * x[c];
  }
#pragma GCC ivdep
  for (int64_t c = 0; c < channels; ++c) sums[c] += double(sum[c]);
}
// The same of kChannels channels and three taps, `apart` from one to the next, each of windows
// inside[j], kTermsTogether at most. x + begin is under the first tap of window 0.
constexpr int64_t kChannels = 16;
template <class T>
[[gnu::noinline]] void add_three(const Range* inside, const Range& all, const T* dy,
                                 int64_t dy_apart, const T* x, int64_t begin, int64_t x_apart,
                                 int64_t apart, double* sums) {
  Wide<T, kChannels> sum[3], loaded;
  for (int64_t j = 0; j < 3; ++j)
    for (int64_t o = inside[j].begin; o < all.begin; ++o) {
      loaded.load(dy + o * dy_apart);
      sum[j].add(loaded, x + (begin + o * x_apart + j * apart));
    }
  Wide<T, kChannels> first = sum[0], second = sum[1], third = sum[2];
  for (int64_t o = all.begin; o < all.end; ++o) {
    const T* const at = x + (begin + o * x_apart);
    loaded.load(dy + o * dy_apart);
    first.add(loaded, at);
    second.add(loaded, at + apart);
    third.add(loaded, at + 2 * apart);
  }
  sum[0] = first;
  sum[1] = second;
  sum[2] = third;
  for (int64_t j = 0; j < 3; ++j) {
    for (int64_t o = all.end; o < inside[j].end; ++o) {
      loaded.load(dy + o * dy_apart);
      sum[j].add(loaded, x + (begin + o * x_apart + j * apart));
    }
    sum[j].add_to(sums + j * kChannelLanes);
  }
}

template <class T>
void weight_of_channels(const Windows& w, int64_t channel, int64_t i, int64_t first,
                        int64_t count) {
  const WindowAxis &rows = w.rows, &columns = w.columns;
  const int64_t channels = smaller(kChannelLanes, w.channels - channel);
  double sums[kTapsTogether][kChannelLanes] = {};
  Range inside[kTapsTogether];
  for (int64_t j = 0; j < count; ++j) inside[j] = windows_on(columns, first + j, 0, columns.in);
  const Range down = windows_on(rows, i, 0, rows.in);
  // Channels whose three taps are added in one turn, and the windows under which all three lie.
  Range all{0, columns.out};
  for (int64_t j = 0; j < count; ++j)
    all = {larger(all.begin, inside[j].begin), smaller(all.end, inside[j].end)};
  const bool together = count == 3 && columns.out <= kTermsTogether && all.begin <= all.end;
  const int64_t three = together ? channels / kChannels * kChannels : 0;
  for (int64_t n = 0; n < w.samples; ++n)
    for (int64_t row = down.begin; row < down.end; ++row) {
      const T* const dy =
          static_cast<const T*>(w.dy) + (n * rows.out + row) * columns.out * w.channels + channel;
      const T* const x = static_cast<const T*>(w.from) +
                         (n * rows.in + element(rows, row, i)) * columns.in * w.channels + channel;
      for (int64_t c = 0; c < three; c += kChannels)
        add_three<T>(inside, all, dy + c, w.channels, x + c,
                     element(columns, 0, first) * w.channels, columns.stride * w.channels,
                     columns.dilation * w.channels, &sums[0][c]);
      if (three == channels) continue;
      for (int64_t j = 0; j < count; ++j)
        for (int64_t o = inside[j].begin; o < inside[j].end; o += kTermsTogether) {
          const auto add =
              channels - three == kChannelLanes ? &add_channels<true, T> : &add_channels<false, T>;
          add(smaller(kTermsTogether, inside[j].end - o), channels - three,
              dy + o * w.channels + three, w.channels,
              x + element(columns, o, first + j) * w.channels + three, columns.stride * w.channels,
              sums[j] + three);
        }
    }
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t j = 0; j < count; ++j)
      static_cast<T*>(w.out)[(channel + c) * taps_of(w) + i * columns.kernel + first + j] =
          T(sums[j][c]);
}

template <class T>
void weight_task(void* context, int64_t index) {
  const Lines& all = *static_cast<const Lines*>(context);
  const Windows& w = *all.call;
  const int64_t parts = ceil_div(w.columns.kernel, kTapsTogether);
  const int64_t end = smaller(all.lines, (index + 1) * all.each);
  for (int64_t line = index * all.each; line < end; ++line) {
    const int64_t first = line % parts * kTapsTogether, i = line / parts % w.rows.kernel;
    const int64_t count = smaller(kTapsTogether, w.columns.kernel - first);
    const int64_t at = line / parts / w.rows.kernel;
    w.channels_last ? weight_of_channels<T>(w, at * kChannelLanes, i, first, count)
                    : weight_of_channel<T>(w, at, i, first, count);
  }
}
template <class T>
void weight_backward(const Windows& w) {
  const int64_t lanes = w.channels_last ? kChannelLanes : 1;
  const int64_t windows = w.samples * w.rows.out * w.columns.out;
  run_lines(w,
            ceil_div(w.channels, lanes) * w.rows.kernel * ceil_div(w.columns.kernel, kTapsTogether),
            windows * lanes * smaller(w.columns.kernel, kTapsTogether), &weight_task<T>);
}

}  // namespace
}  // namespace windows
ONEPASS_END

ONEPASS_CPU_UNIT(depthwise) {
  using namespace onepass::ONEPASS_ISA::windows;
  backend->depthwise_conv2d = [](const onepass::Windows& w) {
    in_computing_type(w, &forward<double>, &forward<float>);
  };
  backend->depthwise_conv2d_backward = [](const onepass::Windows& w) {
    in_computing_type<true>(w, &backward<double>, &backward<float>);
  };
  backend->depthwise_conv2d_weight_backward = [](const onepass::Windows& w) {
    in_computing_type<false, true>(w, &weight_backward<double>, &weight_backward<float>);
  };
  backend->depthwise_workspace = &workspace;
}
