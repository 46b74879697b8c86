// The apply pass: y forward, dx backward.
#pragma once
#include "cpu/sum_pass.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

template <class T>
struct InputGradient {
  ONEPASS_HD T operator()(T g, T x, T mean, T scale, T level, T slope) const {
    return BatchNormRule<T>::input_gradient(g, x, mean, scale, level, slope);
  }
};
template <class T>
struct ScaledGradient {
  ONEPASS_HD T operator()(T g, T scale) const { return BatchNormRule<T>::input_gradient(g, scale); }
};

template <class T, bool kNorm, bool kForward>
struct ApplyPass : SumPass<T, kNorm, kForward> {
  using Base = SumPass<T, kNorm, kForward>;
  using Base::Base;
  using Base::corrects;
  using Base::cut;
  using Base::direct_gradient;
  using Base::drawn;
  using Base::element;
  using Base::epilogue;
  using Base::factor;
  using Base::far;
  using Base::kBackward;
  using Base::norm;
  using Base::run_end;
  using Base::stream;

  using typename Base::Flush;
  template <class P>
  using Factor = typename Base::template Factor<P>;

  void apply_region(const Region& r, Parameters<T> p) const {
    KeepBits bits(norm.epilogue.dropout, drawn);
    const bool scratch =
        !same_dtype<T>(norm.dtype) || !epilogue.composed() || stream || (kBackward && !corrects());
    const int64_t longest = far ? kFarRun : scratch ? kBlockElements : KeepBits::kLongest;
    for (int64_t row = r.row; row < r.row_end; ++row) {
      const int64_t end = run_end(r, row);
      const int64_t unit_end = unit_end_in_row(cut, r, row);
      if (cut.planes()) {
        for (int64_t u = r.unit; u < unit_end; ++u) {
          using P = Uniform<T>;
          const int64_t i = u - r.unit;
          for (int64_t done = 0; done < cut.unit; done += longest) {
            const int64_t at = element(row, u) + done, n = smaller(longest, cut.unit - done);
            if (far && row + 1 < r.row_end) ask_for_output(at + cut.units * cut.unit, n);
            apply_run<P>(at, n, end, P{p.mean[i]}, P{p.scale[i]}, P{p.shift[i]}, P{p.level[i]},
                         P{p.slope[i]}, bits);
          }
        }
      } else {
        using P = const T*;
        for (int64_t u = r.unit; u < unit_end; u += kBlockElements) {
          const int64_t i = u - r.unit, n = smaller(kBlockElements, unit_end - u);
          apply_run<P>(element(row, u), n, end, p.mean + i, p.scale + i, p.shift + i, p.level + i,
                       p.slope + i, bits);
        }
      }
    }
    if (stream) stream_fence();
  }
  template <class P>
  void apply_run(int64_t at, int64_t n, int64_t end, P mean, P scale, P shift, P level, P slope,
                 KeepBits& bits) const {
    if constexpr (kForward) {
      (void)level, (void)slope;
      forward_run<P>(at, n, end, factor(mean), factor(scale), shift, bits);
    } else {
      backward_run<P>(at, n, end, mean, scale, shift, level, slope, bits);
    }
  }
  template <class P>
  void forward_run(int64_t at, int64_t n, int64_t end, Factor<P> mean, Factor<P> scale, P shift,
                   KeepBits& bits) const {
    T x_scratch[kBlockElements], y_scratch[kBlockElements];
    const bool direct = same_dtype<T>(norm.dtype);
    const T* x = fetch<T>(norm.x, norm.dtype, at, n, x_scratch);
    const T* residual = nullptr;
    if (norm.epilogue.residual)
      residual = fetch<T>(norm.epilogue.residual, norm.dtype, at, n, y_scratch);
    const uint32_t* words = epilogue.drops() ? bits.at(at, n, end) : nullptr;
    T* y = direct && !stream ? static_cast<T*>(norm.y) + at : y_scratch;
    epilogue.template forward<Flush>(n, x, residual, mean, scale, shift, words, y);
    if (stream) {
      stream_run<T>(static_cast<T*>(norm.y) + at, y, n);
    } else {
      put<T>(norm.y, norm.dtype, at, n, y);
    }
  }
  template <class P>
  void backward_run(int64_t at, int64_t n, int64_t end, P mean, P scale, P shift, P level, P slope,
                    KeepBits& bits) const {
    T x_scratch[kBlockElements], g_scratch[kBlockElements], dx_scratch[kBlockElements];
    T* dx = same_dtype<T>(norm.dtype) ? static_cast<T*>(norm.dx) + at : dx_scratch;
    if (corrects() && epilogue.composed() && !direct_gradient()) {
      const T* x = fetch<T>(norm.x, norm.dtype, at, n, x_scratch);
      const T* dy = fetch<T>(norm.dy, norm.dtype, at, n, g_scratch);
      const T* residual = nullptr;
      if (epilogue.is_relu() && norm.epilogue.residual)
        residual = fetch<T>(norm.epilogue.residual, norm.dtype, at, n, dx_scratch);
      const uint32_t* words = epilogue.drops() ? bits.at(at, n, end) : nullptr;
      const Flush flush;
      epilogue.input_gradient(n, dy, x, residual, mean, scale, shift, level, slope, words, dx);
    } else {
      const T* g = g_scratch;
      if (direct_gradient()) {
        g = direct_gradient() + at;
      } else {
        this->template gradient<P>(at, n, end, factor(mean), factor(scale), shift, bits, g_scratch);
      }
      const Flush flush;
      if (corrects()) {
        const T* x = fetch<T>(norm.x, norm.dtype, at, n, x_scratch);
        leaf_returning<InputGradient<T>, T>({}, n, dx, g, x, mean, scale, level, slope);
      } else {
        leaf_returning<ScaledGradient<T>, T>({}, n, dx, g, scale);
      }
    }
    put<T>(norm.dx, norm.dtype, at, n, dx);
  }
  void ask_for_output(int64_t at, int64_t n) const {
    if (!stream) this->template ask_for<1>(kForward ? norm.y : norm.dx, at, n);
  }
};

}  // namespace normalise
}  // namespace
ONEPASS_END
