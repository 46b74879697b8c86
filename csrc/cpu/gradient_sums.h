// Backward leaves that add gradient terms to the sums of units: g, or the pair g and g·x̂. They use
// the lanes and the order of moment_sums.h.
//
//   add_term_*      terms
//   add_dropped_*   pairs whose g comes out of dropout, with 32 keep bits per word
#pragma once
#include "cpu/composed.h"
#include "cpu/epilogue_leaves.h"
#include "cpu/norm_sizes.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

// kRows rows, column by column: terms to s and, for pairs, to q.
template <int kRows, class Term>
void add_term_rows(int64_t n, double* s, double* q, const Term term) {
  using Sum = typename Term::Sum;
#pragma GCC ivdep
  for (int64_t c = 0; c < n; ++c) {
    Sum a = 0, b = 0;
#pragma GCC unroll 8
    for (int j = 0; j < kRows; ++j) {
      const Sum value = term.value(j, c);
      a += value;
      if constexpr (Term::kPair) b += term.times(value, j, c);
    }
    s[c] += double(a);
    if constexpr (Term::kPair) q[c] += double(b);
  }
}

// The pair g and its product with x̂ by rule R. g is read from memory or computed, whichever is
// cheaper.
template <class R, class T, class P, class G>
struct GradientPair {
  using Sum = T;
  static constexpr bool kPair = true, kDrops = false;
  G g;
  const T* x;
  int64_t stride;
  P mean, rstd;
  ONEPASS_HD T value(int64_t j, int64_t c) const { return g.value(j, c); }
  ONEPASS_HD T times(T value, int64_t j, int64_t c) const {
    return R::product(value, x[j * stride + c], mean[c], rstd[c]);
  }
  ONEPASS_HD GradientPair next(int64_t rows) const {
    return {g.next(rows), x + rows * stride, stride, mean, rstd};
  }
};

// g computed from dy and x.
template <class R, class A, class T, class P>
struct ComposedGradient {
  EpilogueBackward<R, A, T> backward;
  const T *dy, *x;
  int64_t stride;
  P mean, scale, shift;
  ONEPASS_HD T value(int64_t j, int64_t c) const {
    const int64_t i = j * stride + c;
    return backward(Absent{}, dy[i], x[i], mean[c], scale[c], shift[c]);
  }
  ONEPASS_HD ComposedGradient next(int64_t rows) const {
    return {backward, dy + rows * stride, x + rows * stride, stride, mean, scale, shift};
  }
};

// The same pair if dropout precedes: bit c % 32 of word(j, c) keeps element (j, c). kStores: also
// writes g for the apply pass.
template <class R, class A, class T, class P, bool kStores>
struct DroppedGradientPair {
  using Sum = T;
  static constexpr bool kPair = true, kDrops = true;
  EpilogueBackward<R, A, T> backward;
  const T *dy, *x;
  int64_t stride;
  P mean, rstd, scale, shift;
  const uint32_t* words;
  int64_t word_stride;
  T* to;
  ONEPASS_HD uint32_t word(int64_t j, int64_t c) const { return words[j * word_stride + c / 32]; }
  ONEPASS_HD T value(int64_t j, int64_t c, Keep keep) const {
    const int64_t i = j * stride + c;
    const T g = backward(Absent{}, dy[i], x[i], mean[c], scale[c], shift[c], keep);
    if constexpr (kStores) to[i] = g;
    return g;
  }
  ONEPASS_HD T times(T value, int64_t j, int64_t c) const {
    return R::product(value, x[j * stride + c], mean[c], rstd[c]);
  }
  ONEPASS_HD DroppedGradientPair next(int64_t rows) const {
    return {backward,
            dy + rows * stride,
            x + rows * stride,
            stride,
            mean,
            rstd,
            scale,
            shift,
            words + rows * word_stride,
            word_stride,
            kStores ? to + rows * stride : nullptr};
  }
};

template <class R, bool kStores, class A, class T, class P>
ONEPASS_HD DroppedGradientPair<R, A, T, P, kStores> dropped_pair(EpilogueBackward<R, A, T> backward,
                                                                 const GradientRows<T, P>& r) {
  return {backward,
          r.dy,
          r.x,
          r.stride,
          r.mean,
          r.rstd,
          r.scale,
          r.shift,
          r.words,
          r.word_stride,
          kStores ? r.kept : nullptr};
}

template <class T>
struct Gradient {
  using Sum = T;
  static constexpr bool kPair = false, kDrops = false;
  const T* g;
  int64_t g_stride;
  ONEPASS_HD T value(int64_t j, int64_t c) const { return g[j * g_stride + c]; }
  ONEPASS_HD Gradient next(int64_t rows) const { return {g + rows * g_stride, g_stride}; }
};

// One half of kAdded rows, for `count` columns of one word. The first half's sums stay in the
// computing type for the second. The result is that of add_term_rows, with half as many streams and
// words at a time.
template <bool kFirst, class Term, class T = typename Term::Sum>
ONEPASS_HD void add_dropped_half_word(int64_t from, int count, T* half_s, T* half_q, double* s,
                                      double* q, const Term term) {
  static_assert(kAdded == 8);
  const uint32_t w0 = term.word(0, from), w1 = term.word(1, from), w2 = term.word(2, from),
                 w3 = term.word(3, from);
#pragma GCC ivdep
  for (int l = 0; l < count; ++l) {
    const int64_t c = from + l;
    const T v0 = term.value(0, c, Keep::of(w0, l));
    const T v1 = term.value(1, c, Keep::of(w1, l));
    const T v2 = term.value(2, c, Keep::of(w2, l));
    const T v3 = term.value(3, c, Keep::of(w3, l));
    // In the order of add_term_rows: a separate dropout followed by a batch norm has the same bits.
    const T a = (kFirst ? 0 : half_s[c]) + v0 + v1 + v2 + v3;
    const T b = (kFirst ? 0 : half_q[c]) + term.times(v0, 0, c) + term.times(v1, 1, c) +
                term.times(v2, 2, c) + term.times(v3, 3, c);
    if constexpr (kFirst) {
      half_s[c] = a;
      half_q[c] = b;
    } else {
      s[c] += double(a);
      q[c] += double(b);
    }
  }
}
template <bool kFirst, class Term, class T = typename Term::Sum>
void add_dropped_half(int64_t n, T* half_s, T* half_q, double* s, double* q, const Term term) {
  int64_t c = 0;
  for (; c + 32 <= n; c += 32) add_dropped_half_word<kFirst>(c, 32, half_s, half_q, s, q, term);
  if (c < n) add_dropped_half_word<kFirst>(c, int(n - c), half_s, half_q, s, q, term);
}
template <class Term>
ONEPASS_HD void add_dropped_row_word(int64_t from, int count, double* s, double* q,
                                     const Term term) {
  const uint32_t word = term.word(0, from);
#pragma GCC ivdep
  for (int l = 0; l < count; ++l) {
    const int64_t c = from + l;
    const auto value = term.value(0, c, Keep::of(word, l));
    s[c] += double(value);
    q[c] += double(term.times(value, 0, c));
  }
}
template <class Term>
void add_dropped_row(int64_t n, double* s, double* q, const Term term) {
  int64_t c = 0;
  for (; c + 32 <= n; c += 32) add_dropped_row_word(c, 32, s, q, term);
  if (c < n) add_dropped_row_word(c, int(n - c), s, q, term);
}
template <class Term>
void add_dropped_8_rows(int64_t n, double* s, double* q, const Term term) {
  alignas(kLine) typename Term::Sum half_s[kUnits], half_q[kUnits];
  add_dropped_half<true>(n, half_s, half_q, s, q, term);
  add_dropped_half<false>(n, half_s, half_q, s, q, term.next(kAdded / 2));
}
template <class Term>
void add_terms_of_columns(int64_t rows, int64_t n, double* s, double* q, Term term) {
  if constexpr (Term::kDrops) {
    if (rows == kAdded) return add_dropped_8_rows(n, s, q, term);
    for (int64_t j = 0; j < rows; ++j) add_dropped_row(n, s, q, term.next(j));
  } else {
    if (rows == kAdded) return add_term_rows<kAdded>(n, s, q, term);
    for (int64_t j = 0; j < rows; ++j) add_term_rows<1>(n, s, q, term.next(j));
  }
}
template <class Term>
void add_terms_of_plane(int64_t n, double* s, double* q, Term term) {
  constexpr int64_t kStep = kAdded * kSumLanes;
  for (; n >= kStep; n -= kStep, term = term.next(kAdded))
    add_terms_of_columns(kAdded, kSumLanes, s, q, term);
  for (; n >= kSumLanes; n -= kSumLanes, term = term.next(1))
    add_terms_of_columns(1, kSumLanes, s, q, term);
  add_terms_of_columns(1, n, s, q, term);
}

}  // namespace normalise
}  // namespace
ONEPASS_END
