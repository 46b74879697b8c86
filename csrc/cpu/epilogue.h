// What follows the affine part of a norm or bias, on a block in cache: y = dropout(activation(z +
// residual)), and its gradient g = activation'(z + residual)·dropout(dy).
//
// Identity and ReLU cost nothing next to memory and are composed with the affine part into one
// leaf. Any other activation is a call through a table of block functions, one per activation and
// computing type, so that a new activation adds no instantiation here.
#pragma once
#include "cpu/activation_blocks.h"
#include "cpu/blocks.h"
#include "cpu/keep_bits.h"
#include "cpu/loops.h"
#include "cpu/uniform.h"
#include "kernels/dropout.h"
#include "kernels/identity.h"
#include "kernels/relu.h"

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

// The composed leaves of a rule R (kernels/norm_list.h, kernels/bias.h): y, g, and dx of a norm.
// The residual comes first, for compose() below; M is T, or Absent where the rule has no mean and
// scale.
template <class R, class A, class T>
struct EpilogueForward {
  A activation;
  Dropout<T> dropout;
  template <class Residual, class M>
  ONEPASS_HD T operator()(Residual residual, T x, M mean, M scale, T shift) const {
    return activation.forward(add_residual(R::normalise(x, mean, scale, shift), residual));
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
    if constexpr (std::is_same_v<A, Identity<T>>) return dy;  // also where z is NaN: x is not read
    return activation.backward(dy, add_residual(R::normalise(x, mean, scale, shift), residual));
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

// Runs one of them. residual null: none; words null: no dropout.
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

template <class T>
ONEPASS_HD const ActivationBlocks<T>& activation_blocks() {
  if constexpr (sizeof(T) == 8) {
    return ONEPASS_ACTIVATION_TABLE()->twice;
  } else {
    return ONEPASS_ACTIVATION_TABLE()->single;
  }
}

// Runs an epilogue behind rule R; what to run is decided once per call.
template <class R, class T>
class EpilogueRunner {
 public:
  explicit EpilogueRunner(const Epilogue& e)
      : epilogue_(e),
        blocks_(activation_blocks<T>()),
        dropout_{dropout_scale<T>(e.dropout.threshold)} {}

  bool drops() const { return epilogue_.dropout.threshold != 0; }
  bool is_identity() const { return epilogue_.activation == Epilogue::kIdentity; }
  bool is_relu() const { return epilogue_.activation == Epilogue::kRelu; }
  bool composed() const { return is_identity() || is_relu(); }
  EpilogueBackward<R, Relu<T>, T> relu_backward() const { return {{}, dropout_}; }
  EpilogueBackward<R, Identity<T>, T> identity_backward() const { return {{}, dropout_}; }

  // Flush is alive around the affine part, and around nothing that is an activation or dropout
  // (composed ones give the same bits either way). residual null: none; words null: no dropout.
  // y may be x or residual.
  template <class Flush, class M, class P>
  ONEPASS_HD void forward(int64_t n, const T* x, const T* residual, M mean, M scale, P shift,
                          const uint32_t* words, T* y) const {
    if (is_relu()) {
      const Flush flush;
      const EpilogueForward<R, Relu<T>, T> k{{}, dropout_};
      return compose(k, n, words, residual, y, x, mean, scale, shift);
    }
    affine<Flush>(n, x, residual, mean, scale, shift, is_identity() ? words : nullptr, y);
    if (is_identity()) return;
    blocks_.forward[epilogue_.activation](n, epilogue_.options, y, y);
    if (words) leaf_drawing<Dropout<T>, T>(dropout_, n, words, y, y);
  }

  // z: scratch for n elements, used where the activation is not composed. g may be dy.
  template <class Flush, class M, class P>
  ONEPASS_HD void backward(int64_t n, const T* dy, const T* x, const T* residual, M mean, M scale,
                           P shift, const uint32_t* words, T* z, T* g) const {
    if (is_relu()) {
      const Flush flush;
      return compose(relu_backward(), n, words, residual, g, dy, x, mean, scale, shift);
    }
    if (!is_identity()) affine<Flush>(n, x, residual, mean, scale, shift, nullptr, z);
    if (words) {
      leaf_drawing<Dropout<T>, T>(dropout_, n, words, g, dy);
    } else if (is_identity() && g != dy) {
      store_run<T, T>(g, dy, 1, n);
    }
    if (is_identity()) return;
    blocks_.backward[epilogue_.activation](n, epilogue_.options, words ? g : dy, z, g);
  }

  // dx of a norm at once, where the activation is composed.
  template <class P>
  ONEPASS_HD void input_gradient(int64_t n, const T* dy, const T* x, const T* residual, P mean,
                                 P scale, P shift, P level, P slope, const uint32_t* words,
                                 T* dx) const {
    if (is_relu()) {
      const EpilogueInputGradient<R, Relu<T>, T> k{relu_backward()};
      return compose(k, n, words, residual, dx, dy, x, mean, scale, shift, level, slope);
    }
    using K = EpilogueInputGradient<R, Identity<T>, T>;
    const K k{identity_backward()};
    if (words) {
      leaf_drawing<K, T>(k, n, words, dx, Absent{}, dy, x, mean, scale, shift, level, slope);
    } else {
      leaf_returning<K, T>(k, n, dx, Absent{}, dy, x, mean, scale, shift, level, slope);
    }
  }

 private:
  template <class Flush, class M, class P>
  ONEPASS_HD void affine(int64_t n, const T* x, const T* residual, M mean, M scale, P shift,
                         const uint32_t* words, T* y) const {
    const Flush flush;
    const EpilogueForward<R, Identity<T>, T> k{{}, dropout_};
    compose(k, n, words, residual, y, x, mean, scale, shift);
  }

  const Epilogue& epilogue_;
  const ActivationBlocks<T>& blocks_;
  Dropout<T> dropout_;
};

}  // namespace
ONEPASS_END
