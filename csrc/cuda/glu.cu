// glu: the elementwise driver, with the activation chosen in the kernel, as norms choose it.
#define ONEPASS_ISA cuda
#include "kernels/glu.h"

#include "cuda/chosen_activation.cuh"
#include "cuda/loops.cuh"
#include "cuda/units.h"

ONEPASS_BEGIN
namespace {

static_assert(kGluOptions == kActivationOptions);

template <class T>
struct GluForward {
  static constexpr auto hyper = kGluHyper;
  ChosenActivation gate;
  ONEPASS_HD GluForward(double index, double option, double other)
      : gate{int32_t(index), {option, other}} {}
  ONEPASS_DEVICE T operator()(T a, T b) const {
    activate<1>(gate, &b);
    return gated(a, b);
  }
};

template <class T>
struct GluBackward {
  static constexpr auto hyper = kGluHyper;
  ChosenActivation gate;
  ONEPASS_HD GluBackward(double index, double option, double other)
      : gate{int32_t(index), {option, other}} {}
  ONEPASS_DEVICE void operator()(Written<T> da, Written<T> db, T dy, T a, T b) const {
    T f = b, g = gated(dy, a);
    activate<1>(gate, &f);
    activate_backward<1>(gate, &b, &g);
    da = gated(dy, f);
    db = g;
  }
};

}  // namespace
ONEPASS_END

ONEPASS_CUDA_UNIT(glu) {
  using namespace onepass::ONEPASS_ISA;
  backend->glu = &elementwise<GluForward, kNoGradient>;
  backend->glu_backward = &elementwise<GluBackward, kNoGradient>;
}
