// The apply pass: y forward, dx backward.
#pragma once
#include "cpu/affine_gradient.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

template <class R, class T>
struct InputGradient {
  ONEPASS_HD T operator()(T g, T x, T mean, T scale, T level, T slope) const {
    return R::input_gradient(g, x, mean, scale, level, slope);
  }
};
template <class T>
struct Sum {
  ONEPASS_HD T operator()(T a, T b) const { return a + b; }
};
template <class R, class T>
struct ScaledGradient {
  ONEPASS_HD T operator()(T g, T scale) const { return R::input_gradient(g, scale); }
};

template <class Call>
struct ApplyPass {
  using R = typename Call::Rule;
  using T = typename Call::Type;
  using Flush = typename Call::Flush;
  static constexpr bool kForward = Call::kForward, kBackward = Call::kBackward;
  template <class P>
  using Factor = typename Call::template Factor<P>;

  const Call& call;
  const AffineGradient<Call> gradient{call};

  void apply(const Region& r, Parameters<T> p, bool scaled) const {
    KeepBits bits = call.keep_bits();
    const bool scratch = !same_dtype<T>(call.norm.dtype) || !call.epilogue.composed() ||
                         call.stream || scaled ||
                         (kBackward && (!call.corrects() || call.norm.add));
    const int64_t longest = call.far ? kFarRun : scratch ? kBlockElements : KeepBits::kLongest;
    for (int64_t row = r.row; row < r.row_end; ++row) {
      const int64_t end = call.run_end(r, row);
      const int64_t unit_end = unit_end_in_row(call.cut, r, row);
      if (call.cut.planes()) {
        for (int64_t u = r.unit; u < unit_end; ++u) {
          using P = Uniform<T>;
          const int64_t i = u - r.unit;
          for (int64_t done = 0; done < call.cut.unit; done += longest) {
            const int64_t at = call.element(row, u) + done,
                          n = smaller(longest, call.cut.unit - done);
            if (call.far && row + 1 < r.row_end)
              ask_for_output(at + call.cut.units * call.cut.unit, n);
            apply_run<P>(at, n, end, P{p.mean[i]}, P{p.scale[i]}, P{p.shift[i]}, P{p.level[i]},
                         P{p.slope[i]}, scales_of(p.from(i), scaled, P{}), bits);
          }
        }
      } else {
        using P = const T*;
        for (int64_t u = r.unit; u < unit_end; u += kBlockElements) {
          const int64_t i = u - r.unit, n = smaller(kBlockElements, unit_end - u);
          apply_run<P>(call.element(row, u), n, end, p.mean + i, p.scale + i, p.shift + i,
                       p.level + i, p.slope + i, scales_of(p.from(i), scaled, P{}), bits);
        }
      }
    }
    if (call.stream) stream_fence();
  }
  template <class P>
  void apply_run(int64_t at, int64_t n, int64_t end, P mean, P scale, P shift, P level, P slope,
                 Scales<P> scales, KeepBits& bits) const {
    if constexpr (kForward) {
      (void)level, (void)slope;
      forward_run<P>(at, n, end, call.factor(mean), call.factor(scale), shift, scales, bits);
    } else {
      backward_run<P>(at, n, end, mean, scale, shift, level, slope, scales, bits);
    }
  }
  template <class P>
  void forward_run(int64_t at, int64_t n, int64_t end, Factor<P> mean, Factor<P> scale, P shift,
                   Scales<P> scales, KeepBits& bits) const {
    T x_scratch[kBlockElements], y_scratch[kBlockElements];
    const bool direct = same_dtype<T>(call.norm.dtype);
    const T* x = fetch<T>(call.norm.x, call.norm.dtype, at, n, x_scratch);
    if (scales.any) x = scale_run(n, x, scales.x, x_scratch);
    const T* residual = nullptr;
    if (call.norm.epilogue.residual)
      residual = fetch<T>(call.norm.epilogue.residual, call.norm.dtype, at, n, y_scratch);
    const uint32_t* words = call.epilogue.drops() ? bits.at(at, n, end) : nullptr;
    T* y = direct && !call.stream ? static_cast<T*>(call.norm.y) + at : y_scratch;
    call.epilogue.template forward<Flush>(n, x, residual, mean, scale, shift, words, y);
    if (call.stream) {
      stream_run(static_cast<T*>(call.norm.y) + at, y, n);
    } else {
      put<T>(call.norm.y, call.norm.dtype, at, n, y);
    }
  }
  template <class P>
  void backward_run(int64_t at, int64_t n, int64_t end, P mean, P scale, P shift, P level, P slope,
                    Scales<P> scales, KeepBits& bits) const {
    T x_scratch[kBlockElements], g_scratch[kBlockElements], dx_scratch[kBlockElements];
    T* const result =
        same_dtype<T>(call.norm.dtype) ? static_cast<T*>(call.norm.dx) + at : dx_scratch;
    T* const dx = call.norm.add ? dx_scratch : result;
    const T* const kept = gradient.kept(scales.any);
    if (call.corrects() && call.epilogue.composed() && !kept) {
      const T* x = fetch<T>(call.norm.x, call.norm.dtype, at, n, x_scratch);
      const T* dy = fetch<T>(call.norm.dy, call.norm.dtype, at, n, g_scratch);
      if (scales.any) x = scale_run(n, x, scales.x, x_scratch);
      if (scales.any) dy = scale_run(n, dy, scales.g, g_scratch);
      const T* residual = nullptr;
      if (call.epilogue.is_relu() && call.norm.epilogue.residual)
        residual = fetch<T>(call.norm.epilogue.residual, call.norm.dtype, at, n, dx_scratch);
      const uint32_t* words = call.epilogue.drops() ? bits.at(at, n, end) : nullptr;
      const Flush flush;
      call.epilogue.input_gradient(n, dy, x, residual, mean, scale, shift, level, slope, words, dx);
    } else {
      const T* g = g_scratch;
      if (kept) {
        g = kept + at;
        if (scales.any) g = scale_run(n, g, scales.g, g_scratch);
      } else {
        gradient.template compute<P>(at, n, end, call.factor(mean), call.factor(scale), shift,
                                     scales, scales.any, bits, g_scratch);
      }
      const Flush flush;
      if (call.corrects()) {
        const T* x = fetch<T>(call.norm.x, call.norm.dtype, at, n, x_scratch);
        if (scales.any) x = scale_run(n, x, scales.x, x_scratch);
        leaf_returning<InputGradient<R, T>, T>({}, n, dx, g, x, mean, scale, level, slope);
      } else {
        leaf_returning<ScaledGradient<R, T>, T>({}, n, dx, g, scale);
      }
    }
    if (scales.any) unscale_run(n, dx, scales.x, scales.g);
    if (call.norm.add) {
      const T* add = fetch<T>(call.norm.add, call.norm.dtype, at, n, x_scratch);
      const Flush flush;
      leaf_returning<Sum<T>, T>({}, n, result, add, dx);
    }
    put<T>(call.norm.dx, call.norm.dtype, at, n, result);
  }
  void ask_for_output(int64_t at, int64_t n) const {
    if (!call.stream) call.template ask_for<1>(kForward ? call.norm.y : call.norm.dx, at, n);
  }
};

}  // namespace normalise
}  // namespace
ONEPASS_END
