// im2col, which copies the windows of an image, and its transpose, which adds them up.
#include "cpu/unit.h"
#include "cpu/window_lines.h"

ONEPASS_BEGIN
namespace windows {
namespace {

// ---- copies, of elements of any type of that size

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

// ---- col2im

template <class S>
struct Col2im : Work<S> {
  static constexpr bool kByWindow = false;
  OverLine over{};
  using Work<S>::Work;

  void load(const OverLine& o, int64_t) { over = o; }
  void add_tap(const UnderTap& u) {
    const Windows& w = this->call;
    const int64_t taps = taps_of(w), tap = u.i * w.columns.kernel + u.j;
    int64_t at = over.from + u.from;
    if (w.channels_last) {
      const int64_t channel = at % w.channels;
      at = (at - channel) * taps + tap * w.channels + channel;
    } else {
      const int64_t sample = over.plane / w.channels, channel = over.plane % w.channels;
      const int64_t count = w.rows.out * w.columns.out;
      at = ((channel * taps + tap) * w.samples + sample) * count + at - over.plane * count;
    }
    add_run(u.count, this->from(at), this->sum + u.lane, u.step);
  }
};

// With the channels last and no dilation: neighbouring taps are one run.

template <class T>
void add_row(const Windows& w, int64_t line) {
  const WindowAxis &rows = w.rows, &columns = w.columns;
  const int64_t u = line % rows.in, sample = line / rows.in, channels = w.channels;
  T* const to = static_cast<T*>(w.out) + line * columns.in * channels;
  zero_run(to, columns.in * channels);
  Cover down = windows_over(rows, u);
  for (; down.count > 0; --down.count, down.tap += down.tap_step, down.window -= down.window_step) {
    const T* from = static_cast<const T*>(w.from) +
                    ((sample * rows.out + down.window) * columns.out * rows.kernel + down.tap) *
                        columns.kernel * channels;
    for (int64_t o = 0; o < columns.out; ++o, from += taps_of(w) * channels) {
      const Range inside = taps(columns, o);
      if (inside.begin < inside.end)
        add_run((inside.end - inside.begin) * channels, from + inside.begin * channels,
                to + element(columns, o, inside.begin) * channels, 1);
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

ONEPASS_CPU_UNIT(im2col) {
  using namespace onepass::ONEPASS_ISA;
  backend->im2col = &windows::im2col;
  backend->col2im = &windows::col2im;
}
