// glu: the elementwise driver, with the activation chosen in the kernel, as a norm chooses it.
#define ONEPASS_ISA cuda
#include "kernels/glu.h"

#include "cuda/epilogue.cuh"
#include "cuda/loops.cuh"
#include "cuda/units.h"

ONEPASS_BEGIN
namespace {

static_assert(normalise::most_options(Activations{}) <= kGluOptions);

struct Gate {
  static constexpr bool is_light = false;
  int32_t activation;
  double options[kGluOptions];

  ONEPASS_HD Gate(double index, double option, double other)
      : activation(int32_t(index)), options{option, other} {}
  template <class T, class F>
  ONEPASS_DEVICE void with(F f) const {
    normalise::with_activation<T>(*this, f, normalise::Held{});
  }
};

template <class T>
struct GluForward {
  static constexpr auto hyper = kGluHyper;
  Gate gate;
  ONEPASS_HD GluForward(double index, double option, double other) : gate(index, option, other) {}
  ONEPASS_DEVICE T operator()(T a, T b) const {
    T y = T(0);
    gate.with<T>([&](auto f) { y = gated(a, f.forward(b)); });
    return y;
  }
};

template <class T>
struct GluBackward {
  static constexpr auto hyper = kGluHyper;
  Gate gate;
  ONEPASS_HD GluBackward(double index, double option, double other) : gate(index, option, other) {}
  ONEPASS_DEVICE void operator()(Written<T> da, Written<T> db, T dy, T a, T b) const {
    gate.with<T>([&](auto f) {
      da = gated(dy, f.forward(b));
      db = f.backward(gated(dy, a), b);
    });
  }
};

}  // namespace
ONEPASS_END

ONEPASS_CUDA_UNIT(glu) {
  using namespace onepass::ONEPASS_ISA;
  backend->glu = &elementwise<GluForward, kNoGradient>;
  backend->glu_backward = &elementwise<GluBackward, kNoGradient>;
}
