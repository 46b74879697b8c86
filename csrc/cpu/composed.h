// ReLU composed with the affine part of a norm or bias, as a table of functions over a run of
// elements. composed_relu.cpp compiles them, so that an edit of relu.h does not recompile the
// norm's driver, nor an edit of the driver ReLU's leaves.
//
// Each composed activation has its own unit, table, and constant in Epilogue.
#pragma once
#include "cpu/uniform.h"
#include "kernels/bias.h"
#include "kernels/channel_norm_list.h"
#include "kernels/dropout.h"

ONEPASS_BEGIN

// Rows of dy and x, and what they meet. P: a pointer to a value per element, or Uniform. words
// null: no dropout. kept null: g is not stored.
template <class T, class P>
struct GradientRows {
  const T *dy, *x;
  int64_t stride;
  P mean, rstd, scale, shift;
  const uint32_t* words;
  int64_t word_stride;
  T* kept;
};

// M: P, or Absent behind a rule without mean and scale, which has no `input_gradient` and no sums.
// residual null: none; words null: no dropout.
template <class T, class M, class P>
struct ComposedRuns {
  using Words = const uint32_t*;
  void (*forward)(Dropout<T> dropout, int64_t n, Words words, const T* residual, T* y, const T* x,
                  M mean, M scale, P shift);
  void (*backward)(Dropout<T> dropout, int64_t n, Words words, const T* residual, T* g, const T* dy,
                   const T* x, M mean, M scale, P shift);
  void (*input_gradient)(Dropout<T> dropout, int64_t n, Words words, const T* residual, T* dx,
                         const T* dy, const T* x, P mean, P scale, P shift, P level, P slope);
  // Σg to s and Σ g·x̂ to q: of each of n columns, or of a plane of n elements.
  void (*add_columns)(Dropout<T> dropout, int64_t rows, int64_t n, double* s, double* q,
                      const GradientRows<T, P>& at);
  void (*add_plane)(Dropout<T> dropout, int64_t n, double* s, double* q,
                    const GradientRows<T, P>& at);
};

// Behind rule R.
template <class R, class T>
struct ComposedWith {
  template <class P>
  using Runs = ComposedRuns<T, std::conditional_t<R::kScales, P, Absent>, P>;
  Runs<const T*> columns;
  Runs<Uniform<T>> planes;

  template <class P>
  ONEPASS_HD const Runs<P>& runs() const {
    if constexpr (std::is_pointer_v<P>) {
      return columns;
    } else {
      return planes;
    }
  }
};

template <class T, class L>
struct ComposedWithAll;
template <class T, template <class> class... R>
struct ComposedWithAll<T, List<R...>> : ComposedWith<BiasRule<T>, T>, ComposedWith<R<T>, T>... {};

struct ComposedTable : ComposedWithAll<float, ElementNorms>,
                       ComposedWithAll<double, ElementNorms> {};

const ComposedTable* composed_relu();

ONEPASS_END
