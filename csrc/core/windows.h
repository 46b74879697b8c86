// Which elements of an axis the windows of convolutions and pools cover. Window o has taps 0 to
// kernel - 1; tap i lies on element o · stride - before + i · dilation, or, outside the axis, on
// padding. Taps of an image are numbered along its rows.
#pragma once
#include "backend.h"
#include "sizes.h"

ONEPASS_BEGIN
namespace windows {

// An axis in 32 bits, for GPUs: all functions here take either.
struct ShortAxis {
  int32_t in, out, kernel, stride, dilation, before, after;
};
ONEPASS_HD ShortAxis shortened(const WindowAxis& a) {
  return {int32_t(a.in),       int32_t(a.out),    int32_t(a.kernel), int32_t(a.stride),
          int32_t(a.dilation), int32_t(a.before), int32_t(a.after)};
}
template <class A>
using IndexOf = decltype(A::in);

template <class I>
struct RangeOf {
  I begin, end;
};
using Range = RangeOf<int64_t>;

// a / b rounded up, for a >= 0; most strides and dilations are 1.
template <class I>
ONEPASS_HD I steps_to(I a, I b) {
  return b == 1 ? a : ceil_div<I>(a, b);
}

ONEPASS_HD int64_t taps_of(const Windows& w) { return w.rows.kernel * w.columns.kernel; }

// The element under tap i of window o, which may be one of the padding.
template <class A>
ONEPASS_HD IndexOf<A> element(const A& a, IndexOf<A> o, IndexOf<A> i) {
  return o * a.stride - a.before + i * a.dilation;
}
// The taps of window o that lie on elements.
template <class A>
ONEPASS_HD RangeOf<IndexOf<A>> taps(const A& a, IndexOf<A> o) {
  using I = IndexOf<A>;
  const I first = element(a, o, 0), left = a.in - first;
  const I begin = first >= 0 ? 0 : smaller<I>(a.kernel, steps_to<I>(-first, a.dilation));
  const I end = left <= 0 ? 0 : smaller<I>(a.kernel, steps_to<I>(left, a.dilation));
  return {begin, larger<I>(begin, end)};
}
// The windows whose tap i lies on elements [low, high).
template <class A>
ONEPASS_HD RangeOf<IndexOf<A>> windows_on(const A& a, IndexOf<A> i, IndexOf<A> low,
                                          IndexOf<A> high) {
  using I = IndexOf<A>;
  const I shift = a.before - i * a.dilation;
  const I begin = low + shift <= 0 ? 0 : steps_to<I>(low + shift, a.stride);
  const I end = high + shift <= 0 ? 0 : smaller<I>(a.out, steps_to<I>(high + shift, a.stride));
  return {begin, larger<I>(begin, end)};
}
// The windows over an element: with each, the tap that lies on it. From one to the next the tap
// grows by `tap_step` and the window falls by `window_step`.
template <class I>
struct CoverOf {
  I tap, window, count, tap_step, window_step;
};
using Cover = CoverOf<int64_t>;
template <class A>
ONEPASS_HD CoverOf<IndexOf<A>> windows_over(const A& a, IndexOf<A> v) {
  using I = IndexOf<A>;
  const I past = v + a.before;
  CoverOf<I> c{0, 0, 0, a.stride, 1};
  if (past < 0) return c;
  if (a.dilation == 1) {
    c.window = smaller<I>(a.stride == 1 ? past : past / a.stride, a.out - 1);
    c.tap = past - c.window * a.stride;
    const I left = smaller<I>(a.kernel, past + 1) - c.tap;
    c.count = left <= 0 ? 0 : left <= a.stride ? 1 : steps_to<I>(left, a.stride);
    return c;
  }
  I divisor = a.stride;  // of both
  for (I rest = a.dilation % divisor; rest != 0;) {
    const I next = divisor % rest;
    divisor = rest;
    rest = next;
  }
  c.tap_step = a.stride / divisor;
  c.window_step = a.dilation / divisor;
  const I behind = past - (a.out - 1) * a.stride;
  const I end = smaller<I>(a.kernel, past / a.dilation + 1);
  c.tap = behind <= 0 ? 0 : steps_to<I>(behind, a.dilation);
  // One of tap_step taps at most lies on a window.
  for (I n = 1; n < c.tap_step && (past - c.tap * a.dilation) % a.stride != 0; ++n) ++c.tap;
  const I rest = past - c.tap * a.dilation;
  if (c.tap >= end || rest % a.stride != 0) return c;
  c.window = rest / a.stride;
  c.count = steps_to<I>(end - c.tap, c.tap_step);
  return c;
}

// The elements along an axis by which window o of an average divides: with `padding` those on
// padding too; never what lies beyond it. An average has no dilation.
template <class A>
ONEPASS_HD IndexOf<A> counted(const A& a, IndexOf<A> o, bool padding) {
  using I = IndexOf<A>;
  const I begin = element(a, o, 0);
  const I end = smaller<I>(begin + a.kernel, a.in + a.after);
  return padding ? end - begin : smaller<I>(end, a.in) - larger<I>(begin, 0);
}
// Whether that is the same number for all windows.
template <class A>
ONEPASS_HD bool counts_alike(const A& a, bool padding) {
  const auto end = element(a, a.out - 1, 0) + a.kernel;
  return padding ? end <= a.in + a.after : a.before == 0 && end <= a.in;
}

// The gradient of a depthwise weight adds so many products at most in the computing type, and those
// sums in double.
constexpr int64_t kTermsTogether = 32;

// Adaptive pools: `parts` windows divide an axis, and window o covers these elements; neighbours
// meet or share one. With `extent` and `parts` swapped, the windows over element o.
template <class I>
ONEPASS_HD I length(RangeOf<I> r) {
  return r.end - r.begin;
}
template <class I = int64_t>
ONEPASS_HD RangeOf<I> part_of(typename Same<I>::Type extent, typename Same<I>::Type parts,
                              typename Same<I>::Type o) {
  return {o * extent / parts, ceil_div<I>((o + 1) * extent, parts)};
}

}  // namespace windows
ONEPASS_END
