// Forward leaves that add d and d² (d: distance from a shift) to the sums of units. They add eight
// elements in the computing type, then add that to a double. Lanes and order are fixed, so neither
// the instruction set nor the number of threads changes the result.
//
//   *_of_columns    a panel of rows: each column has its own sum
//   *_of_plane      a run of one plane, in kSumLanes lanes
#pragma once
#include "cpu/norm_sizes.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

// Moments about shift of kRows rows, column by column: d and d² about the block's own first row in
// the computing type, moved to shift in double. Within a block Σd² <= (kRows + 1)·Σ(x - mean)², so
// whatever mean and shift are, a rounded term is small next to the variance; an error of Σd moves
// both sums as one of the mean would. With one row all of it is exact in double.
template <int kRows, class T, class P>
ONEPASS_HD void add_moment_rows(int64_t n, double* s, double* q, const T* x, int64_t stride,
                                P shift) {
#pragma GCC ivdep
  for (int64_t c = 0; c < n; ++c) {
    const T first = x[c];
    T a = 0, b = 0;
#pragma GCC unroll 16
    for (int j = 1; j < kRows; ++j) {
      const T d = x[j * stride + c] - first;
      a += d;
      b += d * d;
    }
    const double from = double(first) - double(shift[c]), all = kRows * from;
    s[c] += double(a) + all;
    q[c] += double(b) + from * (2 * double(a) + all);
  }
}
// One half of 2 * kAdded rows, about the first row of both. The first half's sums stay in the
// computing type for the second, which halves the additions in double.
template <bool kFirst, class T>
void add_moment_half(int64_t n, T* pivot, T* half_s, T* half_q, double* s, double* q, const T* x,
                     int64_t stride, const T* shift) {
#pragma GCC ivdep
  for (int64_t c = 0; c < n; ++c) {
    constexpr int kBegin = kFirst ? 1 : 0;
    const T first = kFirst ? x[c] : pivot[c];
    T a = x[kBegin * stride + c] - first, b = a * a;
#pragma GCC unroll 16
    for (int j = kBegin + 1; j < kAdded; ++j) {
      const T d = x[j * stride + c] - first;
      a += d;
      b += d * d;
    }
    if constexpr (kFirst) {
      pivot[c] = first;
      half_s[c] = a;
      half_q[c] = b;
    } else {
      a += half_s[c];
      b += half_q[c];
      const double from = double(first) - double(shift[c]), all = 2 * kAdded * from;
      s[c] += double(a) + all;
      q[c] += double(b) + from * (2 * double(a) + all);
    }
  }
}
template <class T>
void add_moments_of_16_rows(int64_t n, double* s, double* q, const T* x, int64_t stride,
                            const T* shift) {
  alignas(kLine) T pivot[kUnits], half_s[kUnits], half_q[kUnits];
  add_moment_half<true>(n, pivot, half_s, half_q, s, q, x, stride, shift);
  add_moment_half<false>(n, pivot, half_s, half_q, s, q, x + kAdded * stride, stride, shift);
}
template <class T>
void add_moments_of_columns(int64_t rows, int64_t n, double* s, double* q, const T* x,
                            int64_t stride, const T* shift) {
  if (rows == 2 * kAdded) return add_moments_of_16_rows(n, s, q, x, stride, shift);
  if (rows == kAdded) return add_moment_rows<kAdded>(n, s, q, x, stride, shift);
  for (int64_t j = 0; j < rows; ++j) add_moment_rows<1>(n, s, q, x + j * stride, stride, shift);
}
template <class T, class P>
void add_moments_of_plane(int64_t n, double* s, double* q, const T* x, P shift, bool exact) {
  constexpr int64_t kStep = kAdded * kSumLanes;
  if (!exact)
    for (; n >= kStep; n -= kStep, x += kStep)
      add_moment_rows<kAdded>(kSumLanes, s, q, x, kSumLanes, shift);
  for (; n >= kSumLanes; n -= kSumLanes, x += kSumLanes)
    add_moment_rows<1>(kSumLanes, s, q, x, kSumLanes, shift);
  add_moment_rows<1>(n, s, q, x, kSumLanes, shift);
}

}  // namespace normalise
}  // namespace
ONEPASS_END
