// glu: the elementwise driver runs blocks, in which the activation is called as a norm calls it.
#include "kernels/glu.h"

#include "core/sizes.h"
#include "cpu/activation_blocks.h"
#include "cpu/loops.h"
#include "cpu/unit.h"

ONEPASS_BEGIN
namespace {

template <class T>
[[gnu::noinline]] void gate_all(int64_t n, const T* a, const T* gate, T* out) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = gated(a[i], gate[i]);
}

template <class T>
struct Gate {
  ActivationBlocks<T> blocks;
  int32_t activation;
  double options[kGluOptions];

  Gate(double index, double option, double other)
      : activation(int32_t(index)), options{option, other} {
    if constexpr (sizeof(T) == 4) {
      blocks = activation_table()->single;
    } else {
      blocks = activation_table()->twice;
    }
  }
  void forward(int64_t n, const T* b, T* y) const { blocks.forward[activation](n, options, b, y); }
  void backward(int64_t n, const T* dy, const T* b, T* dx) const {
    blocks.backward[activation](n, options, dy, b, dx);
  }
};

// f(first element, count) of each block.
template <class F>
ONEPASS_HD void each_block(int64_t n, F f) {
  for (int64_t i = 0; i < n; i += kBlockElements) f(i, smaller(kBlockElements, n - i));
}

template <class T>
struct GluForward {
  static constexpr auto hyper = kGluHyper;
  Gate<T> gate;
  GluForward(double index, double option, double other) : gate(index, option, other) {}
  T operator()(T a, T b) const;  // of an element, for the signature; run() computes
  void run(int64_t n, T* y, const T* a, const T* b) const {
    T opened[kBlockElements];
    each_block(n, [&](int64_t i, int64_t count) {
      gate.forward(count, b + i, opened);
      gate_all(count, a + i, opened, y + i);
    });
  }
};

template <class T>
struct GluBackward {
  static constexpr auto hyper = kGluHyper;
  Gate<T> gate;
  GluBackward(double index, double option, double other) : gate(index, option, other) {}
  void operator()(Written<T> da, Written<T> db, T dy, T a, T b) const;
  // da and db may be a and b.
  void run(int64_t n, T* da, T* db, const T* dy, const T* a, const T* b) const {
    T opened[kBlockElements], product[kBlockElements];
    each_block(n, [&](int64_t i, int64_t count) {
      gate.forward(count, b + i, opened);
      gate_all(count, dy + i, a + i, product);
      gate.backward(count, product, b + i, db + i);
      gate_all(count, dy + i, opened, da + i);
    });
  }
};

}  // namespace
ONEPASS_END

ONEPASS_CPU_UNIT(glu) {
  using namespace onepass::ONEPASS_ISA;
  backend->glu = &elementwise<GluForward, kNoGradient>;
  backend->glu_backward = &elementwise<GluBackward, kNoGradient>;
}
