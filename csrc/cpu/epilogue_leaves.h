// The leaves of an epilogue, composed with the affine part of a norm or bias.
#pragma once
#include "cpu/loops.h"
#include "kernels/dropout.h"

ONEPASS_BEGIN
namespace {

template <class T>
ONEPASS_HD T add_residual(T z, T residual) {
  return z + residual;
}
template <class T>
ONEPASS_HD T add_residual(T z, Absent) {
  return z;
}

// The results of a leaf of a rule R (kernels/channel_norm_list.h, kernels/bias.h) and an activation
// A: y, g, and dx of a norm. A is Absent where there is no activation. The residual comes first,
// for compose() below; M is T, or Absent where the rule has no mean and scale.
template <class R, class A, class T>
struct EpilogueForward {
  A activation;
  Dropout<T> dropout;
  template <class Residual, class M>
  ONEPASS_HD T operator()(Residual residual, T x, M mean, M scale, T shift) const {
    const T z = add_residual(R::normalise(x, mean, scale, shift), residual);
    if constexpr (is_present<A>) {
      return activation.forward(z);
    } else {
      return z;
    }
  }
  template <class Residual, class M>
  ONEPASS_HD T operator()(Residual residual, T x, M mean, M scale, T shift, Keep keep) const {
    return dropout((*this)(residual, x, mean, scale, shift), keep);
  }
};

template <class R, class A, class T>
struct EpilogueBackward {
  A activation;
  Dropout<T> dropout;
  template <class Residual, class M>
  ONEPASS_HD T operator()(Residual residual, T dy, T x, M mean, M scale, T shift) const {
    if constexpr (is_present<A>) {
      return activation.backward(dy, add_residual(R::normalise(x, mean, scale, shift), residual));
    } else {
      return dy;  // also where z is NaN: x is not read
    }
  }
  template <class Residual, class M>
  ONEPASS_HD T operator()(Residual residual, T dy, T x, M mean, M scale, T shift, Keep keep) const {
    return (*this)(residual, dropout(dy, keep), x, mean, scale, shift);
  }
};

template <class R, class A, class T>
struct EpilogueInputGradient {
  EpilogueBackward<R, A, T> gradient;
  template <class Residual>
  ONEPASS_HD T operator()(Residual residual, T dy, T x, T mean, T scale, T shift, T level,
                          T slope) const {
    const T g = gradient(residual, dy, x, mean, scale, shift);
    return R::input_gradient(g, x, mean, scale, level, slope);
  }
  template <class Residual>
  ONEPASS_HD T operator()(Residual residual, T dy, T x, T mean, T scale, T shift, T level, T slope,
                          Keep keep) const {
    const T g = gradient(residual, dy, x, mean, scale, shift, keep);
    return R::input_gradient(g, x, mean, scale, level, slope);
  }
};

// Runs one of them over n elements. residual null: none; words null: no dropout.
template <class K, class T, class... P>
void compose(const K k, int64_t n, const uint32_t* words, const T* residual, T* out, P... p) {
  if (words && residual) {
    leaf_drawing<K, T>(k, n, words, out, residual, p...);
  } else if (words) {
    leaf_drawing<K, T>(k, n, words, out, Absent{}, p...);
  } else if (residual) {
    leaf_returning<K, T>(k, n, out, residual, p...);
  } else {
    leaf_returning<K, T>(k, n, out, Absent{}, p...);
  }
}

}  // namespace
ONEPASS_END
