// Computes g, the gradient of the affine part, for a run of elements, and decides where it is
// stored.
#pragma once
#include "cpu/normalise_call.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

template <class Call>
struct AffineGradient {
  using T = typename Call::Type;
  using Flush = typename Call::Flush;
  template <class P>
  using Factor = typename Call::template Factor<P>;

  const Call& call;

  // g is dy itself, and the sum pass need not write it.
  bool is_dy() const {
    return call.epilogue.is_identity() && !call.epilogue.drops() && !delivers();
  }
  // Memory of the computing type that keeps g between the passes, if there is any.
  T* kept() const { return static_cast<T*>(call.kept_gradient); }
  // The kept g where a scaled one is wanted: it may have overflowed, so that it is computed again
  // unless it lies over dy.
  T* kept(bool scale_g) const {
    return scale_g && call.kept_gradient != call.norm.dy ? nullptr : kept();
  }
  bool delivers() const { return call.passes().writes_gradient(); }
  // The leaf that sums also computes g.
  bool fuses() const {
    return Call::kScales && Call::kBackward && call.epilogue.composed() && !is_dy() &&
           !call.norm.epilogue.residual && !delivers() && same_dtype<T>(call.norm.dtype);
  }

  // Elements [at, at + n), n <= kBlockElements; times its scale if scale_g.
  template <class P>
  void compute(int64_t at, int64_t n, int64_t end, Factor<P> mean, Factor<P> scale, P shift,
               Scales<P> scales, bool scale_g, KeepBits& bits, T* g) const {
    const auto& norm = call.norm;
    T x_scratch[kBlockElements], dy_scratch[kBlockElements], residual_scratch[kBlockElements];
    const T* dy = fetch<T>(norm.dy, norm.dtype, at, n, dy_scratch);
    if (scale_g) dy = scale_run(n, dy, scales.g, dy_scratch);
    const T* x = nullptr;
    const T* residual = nullptr;
    if (norm.epilogue.activation != Epilogue::kIdentity) {
      x = fetch<T>(norm.x, norm.dtype, at, n, x_scratch);
      if (scales.any) x = scale_run(n, x, scales.x, x_scratch);
      if (norm.epilogue.residual)
        residual = fetch<T>(norm.epilogue.residual, norm.dtype, at, n, residual_scratch);
    }
    const uint32_t* words = call.epilogue.drops() ? bits.at(at, n, end) : nullptr;
    T z[kBlockElements];
    call.epilogue.template backward<Flush>(n, dy, x, residual, mean, scale, shift, words, z, g);
  }
  // To the residual's gradient, or a bias's dx.
  void deliver(int64_t at, int64_t n, const T* g) const {
    const auto& norm = call.norm;
    if (norm.dresidual) put<T>(norm.dresidual, norm.dtype, at, n, g);
    if (!Call::kScales && norm.dx) put<T>(norm.dx, norm.dtype, at, n, g);
  }
};

}  // namespace normalise
}  // namespace
ONEPASS_END
