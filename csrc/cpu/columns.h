// Sums in the order of core/squares.h: values are added in kColumns columns, which are folded by
// halves. `add` defines how a column takes a value.
#pragma once
#include "core/squares.h"

ONEPASS_BEGIN
namespace {

struct Values {
  ONEPASS_HD double operator()(double sum, double v) const { return sum + v; }
};

template <int kWidth>
ONEPASS_HD void halve(double* columns) {
#pragma GCC ivdep
  for (int c = 0; c < kWidth; ++c) columns[c] += columns[c + kWidth];
}
// A column of a whole block.
template <class F, class T>
ONEPASS_HD double column(const F add, const T* v) {
  static_assert(kBlockElements == 4 * kColumns, "four rows");
  return add(add(add(add(0, v[0]), v[kColumns]), v[2 * kColumns]), v[3 * kColumns]);
}
// The sum of a whole block: columns stay in registers until they are folded twice.
template <class F, class T>
[[gnu::noinline]] double add_up_block(const F add, const T* v) {
  static_assert(kColumns == 256, "folded from 64 columns on");
  alignas(64) double columns[kColumns / 4];
#pragma GCC ivdep
  for (int64_t c = 0; c < kColumns / 4; ++c)
    columns[c] = (column(add, v + c) + column(add, v + c + 128)) +
                 (column(add, v + c + 64) + column(add, v + c + 192));
  halve<32>(columns);
  halve<16>(columns);
  halve<8>(columns);
  halve<4>(columns);
  return (columns[0] + columns[2]) + (columns[1] + columns[3]);
}
// The sum of any number of values, in kColumns columns that are folded by halves. Columns that stay
// zero are left out.
template <class F, class T>
[[gnu::noinline]] double add_up(const F add, const T* v, int64_t n) {
  alignas(64) double columns[kColumns];
  int64_t width = kColumns;
  while (width > 1 && width / 2 >= n) width /= 2;
  for (int64_t c = 0; c < width; ++c) columns[c] = 0;
  for (; n >= width; n -= width, v += width) {
#pragma GCC ivdep
    for (int64_t c = 0; c < width; ++c) columns[c] = add(columns[c], v[c]);
  }
#pragma GCC ivdep
  for (int64_t c = 0; c < n; ++c) columns[c] = add(columns[c], v[c]);
  for (width /= 2; width > 0; width /= 2) {
#pragma GCC ivdep
    for (int64_t c = 0; c < width; ++c) columns[c] += columns[c + width];
  }
  return columns[0];
}

}  // namespace
ONEPASS_END
