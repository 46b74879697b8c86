// What follows the affine part of a norm or bias, on a block in cache: y = dropout(activation(z +
// residual)), and its gradient g = activation'(z + residual)·dropout(dy).
//
// Identity and ReLU cost nothing next to memory and are composed with the affine part into one
// leaf. Any other activation is a call through a table of block functions, one per activation and
// computing type, so that a new activation adds no instantiation here.
#pragma once
#include "cpu/activation_blocks.h"
#include "cpu/blocks.h"
#include "cpu/loops.h"
#include "kernels/batch_norm.h"
#include "kernels/dropout.h"
#include "kernels/identity.h"
#include "kernels/relu.h"

ONEPASS_BEGIN
namespace {

// An operand of a leaf that is one value for the whole run.
template <class T>
struct Uniform {
  T value;
  ONEPASS_HD T operator[](int64_t) const { return value; }
};

// z of a norm, and of a bias alone.
template <class T>
ONEPASS_HD T affine_part(T x, T mean, T scale, T shift) {
  return BatchNormRule<T>::normalise(x, mean, scale, shift);
}
template <class T>
ONEPASS_HD T affine_part(T x, Absent, Absent, T bias) {
  return x + bias;
}
template <class T>
ONEPASS_HD T add_residual(T z, T residual) {
  return z + residual;
}
template <class T>
ONEPASS_HD T add_residual(T z, Absent) {
  return z;
}

// The composed leaves: y, g, and dx of a norm. The residual comes first, for compose() below.
template <class A, class T>
struct EpilogueForward {
  A activation;
  Dropout<T> dropout;
  template <class R, class M>
  ONEPASS_HD T operator()(R residual, T x, M mean, M scale, T shift) const {
    return activation.forward(add_residual(affine_part(x, mean, scale, shift), residual));
  }
  template <class R, class M>
  ONEPASS_HD T operator()(R residual, T x, M mean, M scale, T shift, Keep keep) const {
    return dropout((*this)(residual, x, mean, scale, shift), keep);
  }
};

template <class A, class T>
struct EpilogueBackward {
  A activation;
  Dropout<T> dropout;
  template <class R, class M>
  ONEPASS_HD T operator()(R residual, T dy, T x, M mean, M scale, T shift) const {
    if constexpr (std::is_same_v<A, Identity<T>>) return dy;  // also where z is NaN: x is not read
    return activation.backward(dy, add_residual(affine_part(x, mean, scale, shift), residual));
  }
  template <class R, class M>
  ONEPASS_HD T operator()(R residual, T dy, T x, M mean, M scale, T shift, Keep keep) const {
    return (*this)(residual, dropout(dy, keep), x, mean, scale, shift);
  }
};

template <class A, class T>
struct EpilogueInputGradient {
  EpilogueBackward<A, T> gradient;
  template <class R>
  ONEPASS_HD T operator()(R residual, T dy, T x, T mean, T scale, T shift, T level, T slope) const {
    const T g = gradient(residual, dy, x, mean, scale, shift);
    return BatchNormRule<T>::input_gradient(g, x, mean, scale, level, slope);
  }
  template <class R>
  ONEPASS_HD T operator()(R residual, T dy, T x, T mean, T scale, T shift, T level, T slope,
                          Keep keep) const {
    const T g = gradient(residual, dy, x, mean, scale, shift, keep);
    return BatchNormRule<T>::input_gradient(g, x, mean, scale, level, slope);
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

// The keep bits of consecutive runs of elements, shifted so that bit 0 of the first word is the
// first element of the run. Bits are drawn for up to 4096 elements ahead, where they are cheapest,
// but not beyond `end`, after which the caller jumps.
class KeepBits {
 public:
  static constexpr int64_t kLongest = 4 * kBlockElements;  // of a run

  // drawn: all bits of the array and one word more if they exist already, else null.
  KeepBits(DropoutStream random, const uint32_t* drawn) : random_(random), drawn_(drawn) {}

  const uint32_t* at(int64_t element, int64_t n, int64_t end) {
    const int64_t from = element / 32, to = (element + n + 31) / 32;
    if (!drawn_ && (from < first_ || to > last_)) draw(from, to, (end + 31) / 32);
    const uint32_t* words = drawn_ ? drawn_ + from : words_ + (from - first_);
    const uint32_t shift = uint32_t(element % 32);
    return shift == 0 ? words : align(words, shift, (n + 31) / 32);
  }

 private:
  static constexpr int64_t kAhead = 128;

  void draw(int64_t from, int64_t to, int64_t end) {
    const int64_t start = from & ~int64_t(3);  // words come in groups of four
    int64_t kept = 0;
    if (start >= first_ && start < last_) {
      kept = last_ - start;
      for (int64_t i = 0; i < kept; ++i) words_[i] = words_[start - first_ + i];
    }
    int64_t count = end - start - kept;
    count = (count < kAhead ? count + 3 : longest(to - start - kept)) & ~int64_t(3);
    keep_words(words_ + kept, start + kept, count, random_);
    first_ = start;
    last_ = start + kept + count;
    words_[last_ - first_] = 0;
  }
  static int64_t longest(int64_t needed) { return needed < kAhead ? kAhead : needed + 3; }
  const uint32_t* align(const uint32_t* words, uint32_t shift, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      aligned_[i] = words[i] >> shift | words[i + 1] << (32 - shift);
    return aligned_;
  }

  DropoutStream random_;
  const uint32_t* drawn_;
  int64_t first_ = 0, last_ = 0;
  uint32_t words_[2 * kAhead + kLongest / 32 + 8];
  uint32_t aligned_[kLongest / 32 + 1];
};

// Runs an epilogue; what to run is decided once per call.
template <class T>
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
  EpilogueBackward<Relu<T>, T> relu_backward() const { return {{}, dropout_}; }
  EpilogueBackward<Identity<T>, T> identity_backward() const { return {{}, dropout_}; }

  // Flush is alive around the affine part, and around nothing that is an activation or dropout
  // (composed ones give the same bits either way). residual null: none; words null: no dropout.
  // y may be x or residual.
  template <class Flush, class M, class P>
  ONEPASS_HD void forward(int64_t n, const T* x, const T* residual, M mean, M scale, P shift,
                          const uint32_t* words, T* y) const {
    if (is_relu()) {
      const Flush flush;
      const EpilogueForward<Relu<T>, T> k{{}, dropout_};
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
      const EpilogueInputGradient<Relu<T>, T> k{relu_backward()};
      return compose(k, n, words, residual, dx, dy, x, mean, scale, shift, level, slope);
    }
    using K = EpilogueInputGradient<Identity<T>, T>;
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
    const EpilogueForward<Identity<T>, T> k{{}, dropout_};
    compose(k, n, words, residual, y, x, mean, scale, shift);
  }

  const Epilogue& epilogue_;
  const ActivationBlocks<T>& blocks_;
  Dropout<T> dropout_;
};

}  // namespace
ONEPASS_END
