// The sum pass: moments of each unit forward, Σg and Σ g·x̂ backward. It may also write g, to
// dresidual, to a bias's dx, or for the apply pass.
#pragma once
#include "cpu/channel_step.h"
#include "cpu/sums.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

constexpr int64_t kPanel = 512;  // columns whose gradients are kept for eight rows at once

template <class T, bool kNorm, bool kForward>
struct SumPass : ChannelStep<T, kNorm, kForward> {
  using Base = ChannelStep<T, kNorm, kForward>;
  using Base::Base;
  using Base::cut;
  using Base::direct_gradient;
  using Base::drawn;
  using Base::element;
  using Base::epilogue;
  using Base::factor;
  using Base::far;
  using Base::fuses;
  using Base::kBackward;
  using Base::norm;
  using Base::passes_gradient;
  using Base::run_end;
  using Base::statistics;

  using typename Base::Flush;
  static constexpr int64_t kTogether = kForward ? 2 * kAdded : kAdded;  // rows of columns

  void sum_region(const Region& r, Parameters<T> p, double* s, double* q) const {
    // With a smaller eps, squares that underflow in the computing type would matter. Otherwise only
    // overflow does, from values of about 1e19 on.
    bool exact = false;
    if constexpr (kNorm) exact = norm.eps < 1e-25;
    add_region(r, p, s, q, exact);
    if (!statistics() || exact) return;
    if (overflows(r.units(), q)) redo_overflown(r, p, s, q);
  }
  static bool overflows(int64_t n, const double* q) {
    int64_t bad = 0;  // no early exit: it would not vectorise
#pragma GCC ivdep
    for (int64_t u = 0; u < n; ++u) bad |= q[u] - q[u] == 0 ? 0 : 1;
    return bad != 0;
  }
  // Only the units that overflowed change, so a unit's bits do not depend on its neighbours.
  void redo_overflown(const Region& r, Parameters<T> p, double* s, double* q) const {
    double exact_s[kUnits], exact_q[kUnits];
    add_region(r, p, exact_s, exact_q, true);
    for (int64_t u = 0; u < r.units(); ++u) {
      if (q[u] - q[u] == 0) continue;
      s[u] = exact_s[u];
      q[u] = exact_q[u];
    }
  }
  void add_region(const Region& r, Parameters<T> p, double* s, double* q, bool exact) const {
    if (cut.planes()) {
      sum_planes(r, p, s, q, exact);
    } else {
      sum_columns(r, p, s, q, exact);
    }
  }

  void sum_columns(const Region& r, Parameters<T> p, double* s, double* q, bool exact) const {
    for (int64_t u = 0; u < r.units(); ++u) s[u] = q[u] = 0;
    T x_scratch[sizeof(T) == 4 ? kTogether * kUnits : 1];  // double is never converted
    T g_scratch[kAdded * kUnits];
    KeepBits bits(norm.epilogue.dropout, drawn);
    // With dropout whole rows at a time: bits are drawn in memory order, so a second panel would
    // draw them all again, and the three arrays of a pass that stores g want long runs.
    const int64_t panel = kBackward && epilogue.drops() ? kUnits : kPanel;
    for (int64_t row = r.row; row < r.row_end;) {
      const int64_t full = smaller(r.row_end, cut.rows) - row;
      const int64_t rows = statistics() && exact ? 1
                           : full >= kTogether   ? kTogether
                           : full >= kAdded      ? kAdded
                                                 : 1;
      const int64_t end = unit_end_in_row(cut, r, row);
      for (int64_t u = r.unit; u < end; u += panel) {
        const int64_t n = smaller(panel, end - u), at = element(row, u), i = u - r.unit;
        using P = const T*;
        Strided x{nullptr, 0};
        if constexpr (kNorm) x = strided(norm.x, at, rows, n, x_scratch);
        if constexpr (kForward) {
          const Flush flush;
          add_moments_of_columns(rows, n, s + i, q + i, x.data, x.stride, p.shift + i);
        } else if (fuses()) {
          constexpr int64_t kWords = kUnits / 32;
          uint32_t words[kAdded * kWords];
          if (epilogue.drops())
            for (int64_t j = 0; j < rows; ++j)
              store_run<uint32_t, uint32_t>(words + j * kWords,
                                            bits.at(at + j * cut.units, n, run_end(r, row + j)), 1,
                                            ceil_div(n, 32));
          const Rows<P> fused{at,          x.data,      x.stride, p.mean + i, p.rstd + i,
                              p.scale + i, p.shift + i, words,    kWords};
          const Flush flush;
          with_term(fused, [=](auto term) { add_terms_of_columns(rows, n, s + i, q + i, term); });
        } else {
          const Strided g = gradient_panel(r, row, rows, u, n, p, bits, g_scratch);
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
    if (same_dtype<T>(norm.dtype)) return {static_cast<const T*>(data) + at, cut.units};
    for (int64_t j = 0; j < rows; ++j)
      fetch<T>(data, norm.dtype, at + j * cut.units, n, scratch + j * kUnits);
    return {scratch, kUnits};
  }
  ONEPASS_HD void add_gradients(int64_t rows, int64_t n, double* s, double* q, Strided g, Strided x,
                                Parameters<T> p) const {
    const Flush flush;
    const Gradient<T> term{g.data, g.stride};
    if constexpr (kNorm) {
      using Pair = GradientPair<T, const T*, Gradient<T>>;
      add_terms_of_columns(rows, n, s, q, Pair{term, x.data, x.stride, p.mean, p.rstd});
    } else {
      add_terms_of_columns(rows, n, s, q, term);
    }
  }
  Strided gradient_panel(const Region& r, int64_t row, int64_t rows, int64_t u, int64_t n,
                         Parameters<T> p, KeepBits& bits, T* scratch) const {
    const int64_t at = element(row, u), i = u - r.unit;
    if (passes_gradient()) return strided(norm.dy, at, rows, n, scratch);
    for (int64_t j = 0; j < rows; ++j) {
      const int64_t from = at + j * cut.units;
      T* to = direct_gradient() ? direct_gradient() + from : scratch + j * kUnits;
      this->template gradient<const T*>(from, n, run_end(r, row + j), factor(p.mean + i),
                                        factor(p.scale + i), p.shift + i, bits, to);
      deliver(from, n, to);
    }
    if (direct_gradient()) return {direct_gradient() + at, cut.units};
    return {scratch, kUnits};
  }
  void deliver(int64_t at, int64_t n, const T* g) const {
    if (norm.dresidual) put<T>(norm.dresidual, norm.dtype, at, n, g);
    if (!kNorm && norm.dx) put<T>(norm.dx, norm.dtype, at, n, g);
  }

  // Rows of x and dy from element `at` on, and what they meet.
  template <class P>
  struct Rows {
    int64_t at;
    const T* x;
    int64_t stride;
    P mean, rstd, scale, shift;
    const uint32_t* words;
    int64_t word_stride;
  };
  template <class P, class Add>
  ONEPASS_HD void with_term(const Rows<P>& r, Add add) const {
    const T* dy = static_cast<const T*>(norm.dy) + r.at;
    if (!epilogue.drops()) {
      using G = ReluGradient<T, P>;
      const G g{epilogue.relu_backward(), dy, r.x, r.stride, r.mean, r.scale, r.shift};
      add(GradientPair<T, P, G>{g, r.x, r.stride, r.mean, r.rstd});
    } else if (!epilogue.is_relu()) {
      add(dropped<false>(epilogue.identity_backward(), r));
    } else if (!direct_gradient()) {
      add(dropped<false>(epilogue.relu_backward(), r));
    } else if constexpr (!kMaskedLanes) {
      add(dropped<true>(epilogue.relu_backward(), r));
    }
  }
  template <bool kStores, class A, class P>
  ONEPASS_HD DroppedGradientPair<A, T, P, kStores> dropped(EpilogueBackward<A, T> backward,
                                                           const Rows<P>& r) const {
    return {backward,
            static_cast<const T*>(norm.dy) + r.at,
            r.x,
            r.stride,
            r.mean,
            r.rstd,
            r.scale,
            r.shift,
            r.words,
            r.word_stride,
            kStores ? direct_gradient() + r.at : nullptr};
  }

  void sum_planes(const Region& r, Parameters<T> p, double* s, double* q, bool exact) const {
    double lanes[kPlanes][2][kSumLanes];
    for (int64_t u = 0; u < r.units(); ++u)
      for (int64_t l = 0; l < kSumLanes; ++l) lanes[u][0][l] = lanes[u][1][l] = 0;
    T x_scratch[kBlockElements], g_scratch[kBlockElements];
    KeepBits bits(norm.epilogue.dropout, drawn);
    const bool scratch =
        !same_dtype<T>(norm.dtype) || (kBackward && !fuses() && !passes_gradient());
    const int64_t longest = far ? kFarRun : scratch ? kBlockElements : KeepBits::kLongest;
    for (int64_t row = r.row; row < r.row_end; ++row) {
      const int64_t end = run_end(r, row);
      for (int64_t u = 0; u < r.units(); ++u) {
        for (int64_t done = 0; done < cut.unit; done += longest) {
          const int64_t at = element(row, r.unit + u) + done;
          const int64_t n = smaller(longest, cut.unit - done);
          if (far && row + 1 < r.row_end) ask_for_inputs(at + cut.units * cut.unit, n);
          sum_run(at, n, end, u, p, lanes[u][0], lanes[u][1], x_scratch, g_scratch, bits, exact);
        }
      }
    }
    for (int64_t u = 0; u < r.units(); ++u) {
      s[u] = fold_lanes(lanes[u][0]);
      q[u] = fold_lanes(lanes[u][1]);
    }
  }
  void ask_for_inputs(int64_t at, int64_t n) const {
    if (kNorm) this->template ask_for<0>(norm.x, at, n);
    if (kBackward) this->template ask_for<0>(norm.dy, at, n);
  }
  void sum_run(int64_t at, int64_t n, int64_t end, int64_t u, Parameters<T> p, double* s, double* q,
               T* x_scratch, T* g_scratch, KeepBits& bits, bool exact) const {
    using P = Uniform<T>;
    (void)exact;
    const T* x = nullptr;
    if constexpr (kNorm) x = fetch<T>(norm.x, norm.dtype, at, n, x_scratch);
    if constexpr (kForward) {
      const Flush flush;
      add_moments_of_plane(n, s, q, x, P{p.shift[u]}, exact);
    } else if (fuses()) {
      const uint32_t* words = epilogue.drops() ? bits.at(at, n, end) : nullptr;
      const Rows<P> fused{
          at, x, kSumLanes, P{p.mean[u]}, P{p.rstd[u]}, P{p.scale[u]}, P{p.shift[u]}, words, 1};
      const Flush flush;
      with_term(fused, [=](auto term) { add_terms_of_plane(n, s, q, term); });
    } else {
      const Gradient<T> g{plane_gradient(at, n, end, u, p, g_scratch, bits), kSumLanes};
      const Flush flush;
      if constexpr (kNorm) {
        using Pair = GradientPair<T, P, Gradient<T>>;
        add_terms_of_plane(n, s, q, Pair{g, x, kSumLanes, P{p.mean[u]}, P{p.rstd[u]}});
      } else {
        add_terms_of_plane(n, s, q, g);
      }
    }
  }
  const T* plane_gradient(int64_t at, int64_t n, int64_t end, int64_t u, Parameters<T> p,
                          T* scratch, KeepBits& bits) const {
    using P = Uniform<T>;
    if (passes_gradient()) return fetch<T>(norm.dy, norm.dtype, at, n, scratch);
    T* to = direct_gradient() ? direct_gradient() + at : scratch;
    this->template gradient<P>(at, n, end, factor(P{p.mean[u]}), factor(P{p.scale[u]}),
                               P{p.shift[u]}, bits, to);
    deliver(at, n, to);
    return to;
  }
};

}  // namespace normalise
}  // namespace
ONEPASS_END
