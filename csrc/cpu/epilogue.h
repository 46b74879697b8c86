// What follows the affine part of a norm or bias, on a hot block: y = dropout(activation(z +
// residual)), and the way back, g = activation'(z + residual)·dropout(dy).
//
// Identity and ReLU cost nothing next to memory and are composed with the affine part into one
// leaf; any other activation is a call through a table of block functions, one per activation and
// computing type, so that adding one adds no instantiation here.
#pragma once
#include "cpu/blocks.h"
#include "cpu/loops.h"
#include "kernels/batch_norm.h"
#include "kernels/dropout.h"
#include "kernels/list.h"

ONEPASS_BEGIN
namespace {

// An operand of a leaf that is one value for the whole run, and one that is not there at all.
template <class T>
struct Uniform {
  T value;
  ONEPASS_HD T operator[](int64_t) const { return value; }
};
struct Absent {
  ONEPASS_HD Absent operator[](int64_t) const { return {}; }
};

// z of a norm, and of a bias alone.
template <class T>
ONEPASS_HD T affine_part(T x, T mean, T scale, T shift) {
  return batch_norm_formula::normalise(x, mean, scale, shift);
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

template <class A, class T>
struct EpilogueForward {
  A activation;
  Dropout<T> dropout;
  template <class R, class M>
  ONEPASS_HD T operator()(T x, R residual, M mean, M scale, T shift) const {
    return activation.forward(add_residual(affine_part(x, mean, scale, shift), residual));
  }
  template <class R, class M>
  ONEPASS_HD T operator()(T x, R residual, M mean, M scale, T shift, Keep keep) const {
    return dropout((*this)(x, residual, mean, scale, shift), keep);
  }
};

template <class A, class T>
struct EpilogueBackward {
  A activation;
  Dropout<T> dropout;
  template <class R, class M>
  ONEPASS_HD T operator()(T dy, T x, R residual, M mean, M scale, T shift) const {
    return activation.backward(dy, add_residual(affine_part(x, mean, scale, shift), residual));
  }
  template <class R, class M>
  ONEPASS_HD T operator()(T dy, T x, R residual, M mean, M scale, T shift, Keep keep) const {
    return (*this)(dropout(dy, keep), x, residual, mean, scale, shift);
  }
};

template <class T>
using ForwardBlock = void (*)(int64_t n, const double* options, const T* z, T* y);
template <class T>
using BackwardBlock = void (*)(int64_t n, const double* options, const T* dy, const T* z, T* g);

template <template <class> class A, class T>
void forward_block(int64_t n, const double* options, const T* z, T* y) {
  using K = ActivationForward<A<T>, T>;
  leaf_returning<K, T>(K{make_functor<A<T>, T>(options)}, n, y, z);
}
template <template <class> class A, class T>
void backward_block(int64_t n, const double* options, const T* dy, const T* z, T* g) {
  using K = ActivationBackward<A<T>, T>;
  leaf_returning<K, T>(K{make_functor<A<T>, T>(options)}, n, g, dy, z);
}

template <class T>
struct ActivationTable {
  ForwardBlock<T> forward[kMaxKernels];
  BackwardBlock<T> backward[kMaxKernels];
};
template <class T, template <class> class... A>
constexpr ActivationTable<T> make_activation_table(List<A...>) {
  return {{&forward_block<A, T>...}, {&backward_block<A, T>...}};
}
template <class T>
constexpr ActivationTable<T> kActivationTable = make_activation_table<T>(Activations{});

template <template <class> class A, template <class> class Head, template <class> class... Tail>
constexpr int32_t index_in(List<Head, Tail...>) {
  if constexpr (std::is_same_v<A<float>, Head<float>>) {
    return 0;
  } else {
    return 1 + index_in<A>(List<Tail...>{});
  }
}
constexpr int32_t kIdentity = index_in<Identity>(Activations{});
constexpr int32_t kRelu = index_in<Relu>(Activations{});

// The keep bits of consecutive runs of elements, shifted so that bit 0 of the first word is the
// first element of the run. Bits are drawn for up to 4096 elements ahead, which is when they are
// cheapest, but not beyond `end`, after which the caller jumps.
class KeepBits {
 public:
  explicit KeepBits(DropoutStream random) : random_(random) {}

  const uint32_t* at(int64_t element, int64_t n, int64_t end) {
    const int64_t from = element / 32, to = (element + n + 31) / 32;
    if (from < first_ || to > last_) draw(from, (end + 31) / 32);
    const uint32_t* words = words_ + (from - first_);
    const uint32_t shift = uint32_t(element % 32);
    return shift == 0 ? words : align(words, shift, (n + 31) / 32);
  }

 private:
  static constexpr int64_t kAhead = 128;

  void draw(int64_t from, int64_t end) {
    const int64_t start = from & ~int64_t(3);  // words come in groups of four
    int64_t kept = 0;
    if (start >= first_ && start < last_) {
      kept = last_ - start;
      for (int64_t i = 0; i < kept; ++i) words_[i] = words_[start - first_ + i];
    }
    int64_t count = end - start - kept;
    count = count < kAhead ? (count + 3) & ~int64_t(3) : kAhead;
    keep_words(words_ + kept, start + kept, count, random_);
    first_ = start;
    last_ = start + kept + count;
    words_[last_ - first_] = 0;
  }
  const uint32_t* align(const uint32_t* words, uint32_t shift, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      aligned_[i] = words[i] >> shift | words[i + 1] << (32 - shift);
    return aligned_;
  }

  DropoutStream random_;
  int64_t first_ = 0, last_ = 0;
  uint32_t words_[kAhead + kBlockElements / 32 + 8];
  uint32_t aligned_[kBlockElements / 32 + 1];
};

// How an epilogue is run, decided once per call.
template <class T>
class EpilogueRunner {
 public:
  explicit EpilogueRunner(const Epilogue& e)
      : epilogue_(e), dropout_{dropout_scale<T>(e.dropout.threshold)} {}

  bool drops() const { return epilogue_.dropout.threshold != 0; }
  bool composed() const {
    return epilogue_.activation == kIdentity || epilogue_.activation == kRelu;
  }
  // g = dy.
  bool passes_gradient() const { return epilogue_.activation == kIdentity && !drops(); }

  // Flush is alive around the affine part, and around nothing that is an activation or dropout
  // (composed ones give the same bits either way). residual null: none; words null: no dropout. y
  // may be x or residual.
  template <class Flush, class M, class P>
  ONEPASS_HD void forward(int64_t n, const T* x, const T* residual, M mean, M scale, P shift,
                          const uint32_t* words, T* y) const {
    if (epilogue_.activation == kRelu)
      return forward_with<Flush>(Relu<T>{}, n, x, residual, mean, scale, shift, words, y);
    if (composed())
      return forward_with<Flush>(Identity<T>{}, n, x, residual, mean, scale, shift, words, y);
    forward_with<Flush>(Identity<T>{}, n, x, residual, mean, scale, shift, nullptr, y);
    kActivationTable<T>.forward[epilogue_.activation](n, epilogue_.options, y, y);
    if (words) leaf_drawing<Dropout<T>, T>(dropout_, n, words, y, y);
  }

  // z: scratch for n elements. g may be dy.
  template <class Flush, class M, class P>
  ONEPASS_HD void backward(int64_t n, const T* dy, const T* x, const T* residual, M mean, M scale,
                           P shift, const uint32_t* words, T* z, T* g) const {
    if (epilogue_.activation == kIdentity) {
      const Flush flush;
      if (words) return leaf_drawing<Dropout<T>, T>(dropout_, n, words, g, dy);
      for (int64_t i = 0; i < n; ++i) g[i] = dy[i];
      return;
    }
    if (epilogue_.activation == kRelu)
      return backward_with<Flush>(n, dy, x, residual, mean, scale, shift, words, g);
    forward_with<Flush>(Identity<T>{}, n, x, residual, mean, scale, shift, nullptr, z);
    if (words) leaf_drawing<Dropout<T>, T>(dropout_, n, words, g, dy);
    kActivationTable<T>.backward[epilogue_.activation](n, epilogue_.options, words ? g : dy, z, g);
  }

 private:
  template <class Flush, class A, class M, class P>
  ONEPASS_HD void forward_with(A activation, int64_t n, const T* x, const T* residual, M mean,
                               M scale, P shift, const uint32_t* words, T* y) const {
    const Flush flush;
    using K = EpilogueForward<A, T>;
    const K k{activation, dropout_};
    if (words && residual) {
      leaf_drawing<K, T>(k, n, words, y, x, residual, mean, scale, shift);
    } else if (words) {
      leaf_drawing<K, T>(k, n, words, y, x, Absent{}, mean, scale, shift);
    } else if (residual) {
      leaf_returning<K, T>(k, n, y, x, residual, mean, scale, shift);
    } else {
      leaf_returning<K, T>(k, n, y, x, Absent{}, mean, scale, shift);
    }
  }
  template <class Flush, class M, class P>
  ONEPASS_HD void backward_with(int64_t n, const T* dy, const T* x, const T* residual, M mean,
                                M scale, P shift, const uint32_t* words, T* g) const {
    const Flush flush;
    using K = EpilogueBackward<Relu<T>, T>;
    const K k{{}, dropout_};
    if (words && residual) {
      leaf_drawing<K, T>(k, n, words, g, dy, x, residual, mean, scale, shift);
    } else if (words) {
      leaf_drawing<K, T>(k, n, words, g, dy, x, Absent{}, mean, scale, shift);
    } else if (residual) {
      leaf_returning<K, T>(k, n, g, dy, x, residual, mean, scale, shift);
    } else {
      leaf_returning<K, T>(k, n, g, dy, x, Absent{}, mean, scale, shift);
    }
  }

  const Epilogue& epilogue_;
  Dropout<T> dropout_;
};

}  // namespace
ONEPASS_END
