// Which elements of an axis the windows of convolutions and pools cover. Window o has taps 0 to
// kernel - 1; tap i lies on element o · stride - before + i · dilation, or, outside the axis, on
// padding. Taps of an image are numbered along its rows.
#pragma once
#include "backend.h"
#include "sizes.h"

ONEPASS_BEGIN
namespace windows {

struct Range {
  int64_t begin, end;
};
ONEPASS_HD int64_t length(Range r) { return r.end - r.begin; }

// a / b rounded up, for a >= 0; most strides and dilations are 1.
ONEPASS_HD int64_t steps_to(int64_t a, int64_t b) { return b == 1 ? a : ceil_div(a, b); }

ONEPASS_HD int64_t taps_of(const Windows& w) { return w.rows.kernel * w.columns.kernel; }

// The element under tap i of window o, which may be one of the padding.
ONEPASS_HD int64_t element(const WindowAxis& a, int64_t o, int64_t i) {
  return o * a.stride - a.before + i * a.dilation;
}
// The taps of window o that lie on elements.
ONEPASS_HD Range taps(const WindowAxis& a, int64_t o) {
  const int64_t first = element(a, o, 0), left = a.in - first;
  const int64_t begin = first >= 0 ? 0 : smaller(a.kernel, steps_to(-first, a.dilation));
  const int64_t end = left <= 0 ? 0 : smaller(a.kernel, steps_to(left, a.dilation));
  return {begin, larger(begin, end)};
}
// The windows whose tap i lies on elements [low, high).
ONEPASS_HD Range windows_on(const WindowAxis& a, int64_t i, int64_t low, int64_t high) {
  const int64_t shift = a.before - i * a.dilation;
  const int64_t begin = low + shift <= 0 ? 0 : steps_to(low + shift, a.stride);
  const int64_t end = high + shift <= 0 ? 0 : smaller(a.out, steps_to(high + shift, a.stride));
  return {begin, larger(begin, end)};
}
// The windows over an element: with each, the tap that lies on it. From one to the next the tap
// grows by `tap_step` and the window falls by `window_step`.
struct Cover {
  int64_t tap, window, count, tap_step, window_step;
};
ONEPASS_HD Cover windows_over(const WindowAxis& a, int64_t v) {
  const int64_t past = v + a.before;
  Cover c{0, 0, 0, a.stride, 1};
  if (past < 0) return c;
  if (a.dilation == 1) {
    c.window = smaller(a.stride == 1 ? past : past / a.stride, a.out - 1);
    c.tap = past - c.window * a.stride;
    const int64_t left = smaller(a.kernel, past + 1) - c.tap;
    c.count = left <= 0 ? 0 : left <= a.stride ? 1 : ceil_div(left, a.stride);
    return c;
  }
  int64_t divisor = a.stride;  // of both
  for (int64_t rest = a.dilation % divisor; rest != 0;) {
    const int64_t next = divisor % rest;
    divisor = rest;
    rest = next;
  }
  c.tap_step = a.stride / divisor;
  c.window_step = a.dilation / divisor;
  const int64_t behind = past - (a.out - 1) * a.stride;
  const int64_t end = smaller(a.kernel, past / a.dilation + 1);
  c.tap = behind <= 0 ? 0 : ceil_div(behind, a.dilation);
  // One of tap_step taps at most lies on a window.
  for (int64_t n = 1; n < c.tap_step && (past - c.tap * a.dilation) % a.stride != 0; ++n) ++c.tap;
  const int64_t rest = past - c.tap * a.dilation;
  if (c.tap >= end || rest % a.stride != 0) return c;
  c.window = rest / a.stride;
  c.count = ceil_div(end - c.tap, c.tap_step);
  return c;
}

// The elements along an axis by which window o of an average divides: with `padding` those on
// padding too; never what lies beyond it. An average has no dilation.
ONEPASS_HD int64_t counted(const WindowAxis& a, int64_t o, bool padding) {
  const int64_t begin = element(a, o, 0);
  const int64_t end = smaller(begin + a.kernel, a.in + a.after);
  return padding ? end - begin : smaller(end, a.in) - larger(begin, 0);
}
// Whether that is the same number for all windows.
ONEPASS_HD bool counts_alike(const WindowAxis& a, bool padding) {
  const int64_t end = element(a, a.out - 1, 0) + a.kernel;
  return padding ? end <= a.in + a.after : a.before == 0 && end <= a.in;
}

// The gradient of a depthwise weight adds so many products at most in the computing type, and those
// sums in double.
constexpr int64_t kTermsTogether = 32;

// Adaptive pools: `parts` windows divide an axis, and window o covers these elements; neighbours
// meet or share one. With `extent` and `parts` swapped, the windows over element o.
ONEPASS_HD Range part_of(int64_t extent, int64_t parts, int64_t o) {
  return {o * extent / parts, ceil_div((o + 1) * extent, parts)};
}

}  // namespace windows
ONEPASS_END
