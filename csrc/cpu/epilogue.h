// The epilogue of a norm or bias: everything after its affine part, on a block in cache. Forward: y
// = dropout(activation(z + residual)); backward: g = activation'(z + residual)·dropout(dy).
//
// ReLU is composed with the affine part into one leaf (composed.h), where it costs nothing next to
// memory. Any other activation is called through a table of block functions, one per activation and
// computing type. So a new or changed activation does not recompile the norms.
#pragma once
#include "cpu/activation_blocks.h"
#include "cpu/blocks.h"
#include "cpu/composed.h"
#include "cpu/epilogue_leaves.h"
#include "cpu/keep_bits.h"
#include "cpu/uniform.h"

ONEPASS_BEGIN
namespace {

template <class T>
ONEPASS_HD const ActivationBlocks<T>& activation_blocks() {
  if constexpr (sizeof(T) == 8) {
    return activation_table()->twice;
  } else {
    return activation_table()->single;
  }
}

// Runs an epilogue behind rule R; what to run is decided once per call.
template <class R, class T>
class EpilogueRunner {
 public:
  explicit EpilogueRunner(const Epilogue& e)
      : epilogue_(e),
        blocks_(activation_blocks<T>()),
        relu_(*composed_relu()),
        dropout_{dropout_scale<T>(e.dropout.threshold)} {}

  bool drops() const { return epilogue_.dropout.threshold != 0; }
  bool is_identity() const { return epilogue_.activation == Epilogue::kIdentity; }
  bool is_relu() const { return epilogue_.activation == Epilogue::kRelu; }
  bool composed() const { return is_identity() || is_relu(); }
  Dropout<T> dropout() const { return dropout_; }
  template <class P>
  ONEPASS_HD const auto& relu() const {
    return relu_.template runs<P>();
  }
  EpilogueBackward<R, Absent, T> identity_backward() const { return {{}, dropout_}; }

  // Flush is alive around the affine part, and around nothing that is an activation or dropout
  // (composed ones give the same bits either way). residual null: none; words null: no dropout.
  // y may be x or residual.
  template <class Flush, class M, class P>
  ONEPASS_HD void forward(int64_t n, const T* x, const T* residual, M mean, M scale, P shift,
                          const uint32_t* words, T* y) const {
    if (is_relu()) {
      const Flush flush;
      return relu<P>().forward(dropout_, n, words, residual, y, x, mean, scale, shift);
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
      return relu<P>().backward(dropout_, n, words, residual, g, dy, x, mean, scale, shift);
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
    if (is_relu())
      return relu<P>().input_gradient(dropout_, n, words, residual, dx, dy, x, mean, scale, shift,
                                      level, slope);
    using K = EpilogueInputGradient<R, Absent, T>;
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
    const EpilogueForward<R, Absent, T> k{{}, dropout_};
    compose(k, n, words, residual, y, x, mean, scale, shift);
  }

  const Epilogue& epilogue_;
  const ActivationBlocks<T>& blocks_;
  const ComposedWith<R, T>& relu_;
  Dropout<T> dropout_;
};

}  // namespace
ONEPASS_END
