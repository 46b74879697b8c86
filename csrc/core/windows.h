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

ONEPASS_HD int64_t taps_of(const Windows& w) { return w.rows.kernel * w.columns.kernel; }

// The element under tap i of window o, which may be one of the padding.
ONEPASS_HD int64_t element(const WindowAxis& a, int64_t o, int64_t i) {
  return o * a.stride - a.before + i * a.dilation;
}
// The taps of window o that lie on elements.
ONEPASS_HD Range taps(const WindowAxis& a, int64_t o) {
  const int64_t first = element(a, o, 0), left = a.in - first;
  const int64_t begin = first >= 0 ? 0 : smaller(a.kernel, ceil_div(-first, a.dilation));
  const int64_t end = left <= 0 ? 0 : smaller(a.kernel, ceil_div(left, a.dilation));
  return {begin, larger(begin, end)};
}
// The windows whose tap i lies on elements [low, high).
ONEPASS_HD Range windows_on(const WindowAxis& a, int64_t i, int64_t low, int64_t high) {
  const int64_t shift = a.before - i * a.dilation;
  const int64_t begin = low + shift <= 0 ? 0 : ceil_div(low + shift, a.stride);
  const int64_t end = high + shift <= 0 ? 0 : smaller(a.out, ceil_div(high + shift, a.stride));
  return {begin, larger(begin, end)};
}
// The window whose tap i lies on element v; -1: there is none.
ONEPASS_HD int64_t window_at(const WindowAxis& a, int64_t v, int64_t i) {
  const int64_t past = v + a.before - i * a.dilation;
  if (past < 0) return -1;
  const int64_t o = a.stride == 1 ? past : past / a.stride;
  return o * a.stride == past && o < a.out ? o : -1;
}

// What window o of an average counts along an axis: its taps without dilation, those on padding too
// or not, but none beyond the padding.
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

}  // namespace windows
ONEPASS_END
