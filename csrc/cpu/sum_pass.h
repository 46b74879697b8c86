// The sum pass: moments of each unit forward, Σg and Σ g·x̂ backward. It may also write g, to
// dresidual, to a bias's dx, or for the apply pass.
#pragma once
#include "cpu/affine_gradient.h"
#include "cpu/gradient_sums.h"
#include "cpu/moment_sums.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

constexpr int64_t kPanel = 512;  // columns whose gradients are kept for eight rows at once

// How a region is added: rows of a moment one by one in double, x and g scaled.
struct Care {
  bool exact = false, scale_x = false, scale_g = false;
  bool scales() const { return scale_x || scale_g; }
};

ONEPASS_HD double fold_lanes(const double* lanes) {
  double sum = 0;
  for (int64_t l = 0; l < kSumLanes; ++l) sum += lanes[l];
  return sum;
}

template <class Call>
struct SumPass {
  using R = typename Call::Rule;
  using T = typename Call::Type;
  using Flush = typename Call::Flush;
  static constexpr bool kForward = Call::kForward, kBackward = Call::kBackward;
  static constexpr bool kScales = Call::kScales;
  static constexpr int64_t kTogether = kForward ? 2 * kAdded : kAdded;  // rows of columns

  const Call& call;
  const AffineGradient<Call> gradient{call};

  // x is scaled in a scaled region.
  void add(const Region& r, Parameters<T> p, double* s, double* q, bool scaled) const {
    Care care;
    care.scale_x = scaled;
    // With a smaller eps, squares that underflow in the computing type would matter.
    if constexpr (kScales) care.exact = call.norm.eps < 1e-25;
    add_region(r, p, s, q, care);
  }
  void add_region(const Region& r, Parameters<T> p, double* s, double* q, Care care) const {
    if (call.cut.planes()) {
      sum_planes(r, p, s, q, care);
    } else {
      sum_columns(r, p, s, q, care);
    }
  }

  void sum_columns(const Region& r, Parameters<T> p, double* s, double* q, Care care) const {
    for (int64_t u = 0; u < r.units(); ++u) s[u] = q[u] = 0;
    // Moments of scaled doubles are exact: one row at a time.
    T x_scratch[sizeof(T) == 8 && kForward ? kUnits : kTogether * kUnits];
    T g_scratch[kAdded * kUnits];
    KeepBits bits = call.keep_bits();
    // With dropout whole rows at a time: bits are drawn in memory order, so a second panel would
    // draw them all again, and the three arrays of a pass that stores g want long runs.
    const int64_t panel = kBackward && call.epilogue.drops() ? kUnits : kPanel;
    for (int64_t row = r.row; row < r.row_end;) {
      const int64_t full = smaller(r.row_end, call.cut.rows) - row;
      const int64_t rows = call.statistics() && care.exact ? 1
                           : full >= kTogether             ? kTogether
                           : full >= kAdded                ? kAdded
                                                           : 1;
      const int64_t end = unit_end_in_row(call.cut, r, row);
      for (int64_t u = r.unit; u < end; u += panel) {
        const int64_t n = smaller(panel, end - u), at = call.element(row, u), i = u - r.unit;
        Strided x{nullptr, 0};
        if constexpr (kScales) x = strided(call.norm.x, at, rows, n, x_scratch);
        if (kScales && care.scale_x) x = scale_rows(x, rows, n, p.x_scale + i, x_scratch);
        if constexpr (kForward) {
          const Flush flush;
          add_moments_of_columns(rows, n, s + i, q + i, x.data, x.stride, p.shift + i);
        } else {
          if constexpr (kScales)
            if (gradient.fuses() && !care.scales()) {
              add_fused_columns(r, row, rows, u, n, p.from(i), s + i, q + i, x, bits);
              continue;
            }
          const Strided g = gradient_panel(r, row, rows, u, n, p, care, bits, g_scratch);
          add_gradients(rows, n, s + i, q + i, g, x, p.from(i));
        }
      }
      row += rows;
    }
  }

  struct Strided {
    const T* data;
    int64_t stride;
  };
  Strided strided(const void* data, int64_t at, int64_t rows, int64_t n, T* scratch) const {
    if (same_dtype<T>(call.norm.dtype)) return {static_cast<const T*>(data) + at, call.cut.units};
    for (int64_t j = 0; j < rows; ++j)
      fetch<T>(data, call.norm.dtype, at + j * call.cut.units, n, scratch + j * kUnits);
    return {scratch, kUnits};
  }
  Strided scale_rows(Strided x, int64_t rows, int64_t n, const T* by, T* scratch) const {
    for (int64_t j = 0; j < rows; ++j)
      scale_run(n, x.data + j * x.stride, by, scratch + j * kUnits);
    return {scratch, kUnits};
  }
  ONEPASS_HD void add_fused_columns(const Region& r, int64_t row, int64_t rows, int64_t u,
                                    int64_t n, Parameters<T> p, double* s, double* q, Strided x,
                                    KeepBits& bits) const {
    constexpr int64_t kWords = kUnits / 32;
    uint32_t words[kAdded * kWords];
    const int64_t at = call.element(row, u);
    if (call.epilogue.drops())
      for (int64_t j = 0; j < rows; ++j)
        store_run<uint32_t, uint32_t>(words + j * kWords,
                                      bits.at(at + j * call.cut.units, n, call.run_end(r, row + j)),
                                      1, ceil_div(n, 32));
    using P = const T*;
    const auto fused =
        gradient_rows<P>(at, x.data, x.stride, p.mean, p.rstd, p.scale, p.shift, words, kWords);
    const Flush flush;
    if (call.epilogue.is_relu())
      return call.epilogue.template relu<P>().add_columns(call.epilogue.dropout(), rows, n, s, q,
                                                          fused);
    add_terms_of_columns(rows, n, s, q, dropped_term(fused));
  }
  ONEPASS_HD void add_gradients(int64_t rows, int64_t n, double* s, double* q, Strided g, Strided x,
                                Parameters<T> p) const {
    const Flush flush;
    const Gradient<T> term{g.data, g.stride};
    if constexpr (kScales) {
      using Pair = GradientPair<R, T, const T*, Gradient<T>>;
      add_terms_of_columns(rows, n, s, q, Pair{term, x.data, x.stride, p.mean, p.rstd});
    } else {
      add_terms_of_columns(rows, n, s, q, term);
    }
  }
  Strided gradient_panel(const Region& r, int64_t row, int64_t rows, int64_t u, int64_t n,
                         Parameters<T> p, Care care, KeepBits& bits, T* scratch) const {
    const int64_t at = call.element(row, u), i = u - r.unit;
    if (care.scale_g) return scaled_gradient_panel(r, row, rows, u, n, p, bits, scratch);
    if (gradient.is_dy()) return strided(call.norm.dy, at, rows, n, scratch);
    for (int64_t j = 0; j < rows; ++j) {
      const int64_t from = at + j * call.cut.units;
      T* to = gradient.kept() ? gradient.kept() + from : scratch + j * kUnits;
      gradient_run<const T*>(from, n, call.run_end(r, row + j), p.from(i), care, bits, to);
      gradient.deliver(from, n, to);
    }
    if (gradient.kept()) return {gradient.kept() + at, call.cut.units};
    return {scratch, kUnits};
  }
  // Of sums that are taken again: g was delivered before.
  Strided scaled_gradient_panel(const Region& r, int64_t row, int64_t rows, int64_t u, int64_t n,
                                Parameters<T> p, KeepBits& bits, T* scratch) const {
    const int64_t at = call.element(row, u), i = u - r.unit;
    for (int64_t j = 0; j < rows; ++j)
      scaled_gradient<const T*>(at + j * call.cut.units, n, call.run_end(r, row + j), p.from(i),
                                bits, scratch + j * kUnits);
    return {scratch, kUnits};
  }
  template <class P>
  const T* scaled_gradient(int64_t at, int64_t n, int64_t end, Parameters<T> p, KeepBits& bits,
                           T* g) const {
    if (gradient.kept(true))
      return scale_run(n, gradient.kept() + at, scales_of(p, true, operand<P>(p.shift)).g, g);
    Care care;
    care.scale_x = care.scale_g = true;
    gradient_run<P>(at, n, end, p, care, bits, g);
    return g;
  }
  // A leaf takes a pointer to a value per unit, or the value of the one unit.
  template <class P>
  ONEPASS_HD static P operand(const T* from) {
    if constexpr (std::is_pointer_v<P>) {
      return from;
    } else {
      return {*from};
    }
  }
  template <class P>
  ONEPASS_HD void gradient_run(int64_t at, int64_t n, int64_t end, Parameters<T> p, Care care,
                               KeepBits& bits, T* g) const {
    const P shift = operand<P>(p.shift);
    gradient.template compute<P>(at, n, end, call.factor(operand<P>(p.mean)),
                                 call.factor(operand<P>(p.scale)), shift,
                                 scales_of(p, care.scale_x, shift), care.scale_g, bits, g);
  }
  // From element `at` on.
  template <class P>
  ONEPASS_HD GradientRows<T, P> gradient_rows(int64_t at, const T* x, int64_t stride, P mean,
                                              P rstd, P scale, P shift, const uint32_t* words,
                                              int64_t word_stride) const {
    return {static_cast<const T*>(call.norm.dy) + at,
            x,
            stride,
            mean,
            rstd,
            scale,
            shift,
            call.epilogue.drops() ? words : nullptr,
            word_stride,
            gradient.kept() ? gradient.kept() + at : nullptr};
  }
  // Without an activation only dropout makes g differ from dy.
  template <class P>
  ONEPASS_HD auto dropped_term(const GradientRows<T, P>& rows) const {
    return dropped_pair<R, false>(call.epilogue.identity_backward(), rows);
  }

  void sum_planes(const Region& r, Parameters<T> p, double* s, double* q, Care care) const {
    double lanes[kPlanes][2][kSumLanes];
    for (int64_t u = 0; u < r.units(); ++u)
      for (int64_t l = 0; l < kSumLanes; ++l) lanes[u][0][l] = lanes[u][1][l] = 0;
    T x_scratch[kBlockElements], g_scratch[kBlockElements];
    KeepBits bits = call.keep_bits();
    const bool scratch = !same_dtype<T>(call.norm.dtype) || care.scales() ||
                         (kBackward && !gradient.fuses() && !gradient.is_dy());
    const int64_t longest = call.far ? kFarRun : scratch ? kBlockElements : KeepBits::kLongest;
    for (int64_t row = r.row; row < r.row_end; ++row) {
      const int64_t end = call.run_end(r, row);
      for (int64_t u = 0; u < r.units(); ++u) {
        for (int64_t done = 0; done < call.cut.unit; done += longest) {
          const int64_t at = call.element(row, r.unit + u) + done;
          const int64_t n = smaller(longest, call.cut.unit - done);
          if (call.far && row + 1 < r.row_end)
            ask_for_inputs(at + call.cut.units * call.cut.unit, n);
          sum_run(at, n, end, u, p, lanes[u][0], lanes[u][1], x_scratch, g_scratch, bits, care);
        }
      }
    }
    for (int64_t u = 0; u < r.units(); ++u) {
      s[u] = fold_lanes(lanes[u][0]);
      q[u] = fold_lanes(lanes[u][1]);
    }
  }
  void ask_for_inputs(int64_t at, int64_t n) const {
    if (kScales) call.template ask_for<0>(call.norm.x, at, n);
    if (kBackward) call.template ask_for<0>(call.norm.dy, at, n);
  }
  void sum_run(int64_t at, int64_t n, int64_t end, int64_t u, Parameters<T> p, double* s, double* q,
               T* x_scratch, T* g_scratch, KeepBits& bits, Care care) const {
    using P = Uniform<T>;
    (void)care;
    const T* x = nullptr;
    if constexpr (kScales) x = fetch<T>(call.norm.x, call.norm.dtype, at, n, x_scratch);
    if (kScales && care.scale_x) x = scale_run(n, x, P{p.x_scale[u]}, x_scratch);
    if constexpr (kForward) {
      const Flush flush;
      add_moments_of_plane(n, s, q, x, P{p.shift[u]}, care.exact);
    } else {
      if constexpr (kScales)
        if (gradient.fuses() && !care.scales()) {
          const uint32_t* words = call.epilogue.drops() ? bits.at(at, n, end) : nullptr;
          const auto fused = gradient_rows<P>(at, x, kSumLanes, P{p.mean[u]}, P{p.rstd[u]},
                                              P{p.scale[u]}, P{p.shift[u]}, words, 1);
          const Flush flush;
          if (call.epilogue.is_relu())
            return call.epilogue.template relu<P>().add_plane(call.epilogue.dropout(), n, s, q,
                                                              fused);
          return add_terms_of_plane(n, s, q, dropped_term(fused));
        }
      const Gradient<T> g{plane_gradient(at, n, end, p.from(u), care, g_scratch, bits), kSumLanes};
      const Flush flush;
      if constexpr (kScales) {
        using Pair = GradientPair<R, T, P, Gradient<T>>;
        add_terms_of_plane(n, s, q, Pair{g, x, kSumLanes, P{p.mean[u]}, P{p.rstd[u]}});
      } else {
        add_terms_of_plane(n, s, q, g);
      }
    }
  }
  const T* plane_gradient(int64_t at, int64_t n, int64_t end, Parameters<T> p, Care care,
                          T* scratch, KeepBits& bits) const {
    using P = Uniform<T>;
    if (care.scale_g) return scaled_gradient<P>(at, n, end, p, bits, scratch);
    if (gradient.is_dy()) return fetch<T>(call.norm.dy, call.norm.dtype, at, n, scratch);
    T* to = gradient.kept() ? gradient.kept() + at : scratch;
    gradient_run<P>(at, n, end, p, care, bits, to);
    gradient.deliver(at, n, to);
    return to;
  }
};

}  // namespace normalise
}  // namespace
ONEPASS_END
