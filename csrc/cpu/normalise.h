// The normalise driver: batch norm and bias, each with its epilogue, forward and backward, over
// dense (outer, channels, inner) arrays.
//
// A call is cut into regions, rows × units, by size alone. A unit is what shares one set of
// parameters in memory order: a whole plane of one channel where planes are long, one column of the
// matrix (outer, channels·inner) where they are short; narrow matrices take several rows as one.
// Where every channel lies in one region, a region is one task: statistics first, then the apply
// pass over memory that is still in the second-level cache. Otherwise regions leave partial sums,
// which are combined in order before a second round of tasks, reversed in each half so that both
// threads start with what they touched last.
//
// Statistics are sums of x - first element of the channel and of its square, as exact as in double
// at any magnitude and for any ratio of mean to deviation (add_moments in sums.h). Gradient sums
// add eight elements in the computing type, then double. Keep bits that two passes need, or that
// lie between those of other tasks, are drawn before either, 1/32 of the memory of x.
#pragma once
#include <stdlib.h>

#include "cpu/channels.h"
#include "cpu/epilogue.h"
#include "cpu/parallel.h"
#include "cpu/sums.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

constexpr int64_t kPanel = 512;  // columns whose gradients are kept for eight rows at once
// Planes beyond the second-level cache are asked for by hand, this much of the next row at a time.
constexpr int64_t kFarBytes = 2 << 20;
constexpr int64_t kFarRun = 512;

// Whether a select is no more than a masked instruction.
#ifdef __AVX512F__
constexpr bool kMaskedLanes = true;
#else
constexpr bool kMaskedLanes = false;
#endif

struct NoFlush {
  ~NoFlush() {}
};

template <class T>
struct InputGradient {
  ONEPASS_HD T operator()(T g, T x, T mean, T scale, T level, T slope) const {
    return batch_norm_formula::input_gradient(g, x, mean, scale, level, slope);
  }
};
template <class T>
struct ScaledGradient {
  ONEPASS_HD T operator()(T g, T scale) const { return g * scale; }
};

// ---- one call. kNorm: batch norm, else bias; kForward.

template <class T, bool kNorm, bool kForward>
struct Call {
  using Flush = std::conditional_t<kNorm, FlushDenormals, NoFlush>;
  // What z needs besides the shift: nothing for a bias.
  template <class P>
  using Factor = std::conditional_t<kNorm, P, Absent>;

  const BatchNorm& norm;  // a bias is one with nothing set beyond Channelwise
  Cut cut;
  EpilogueRunner<T> epilogue;
  bool stream;           // y goes past the caches
  bool far;              // an array is beyond the second-level cache
  void* kept_gradient;   // where the sums' pass leaves g for the dx pass; null: computed twice
  Parameters<T> shared;  // of all units
  double* partial;       // [block][s, q][unit]; null: every channel lies in one region
  uint32_t* drawn;       // all keep bits; null: drawn where they are needed

  static constexpr bool kBackward = !kForward;
  static constexpr int64_t kTogether = kForward ? 2 * kAdded : kAdded;  // rows of columns

  bool statistics() const { return kNorm && kForward && norm.batch_statistics; }
  bool corrects() const { return kNorm && norm.batch_statistics; }
  double count() const { return double(norm.outer) * double(norm.inner); }
  bool sums() const {
    if (kForward) return statistics();
    return norm.dweight.data || norm.dbias.data || norm.dresidual || (norm.dx && corrects()) ||
           !kNorm;
  }
  bool applies() const { return kForward || (kNorm && norm.dx); }

  // -- parameters of a region

  T* saved_row(int64_t row, int64_t channel) const {
    return static_cast<T*>(norm.saved) + row * norm.channels + channel;
  }
  SavedRows<T> saved(int64_t channel) const {
    return {saved_row(0, channel), saved_row(1, channel), saved_row(2, channel)};
  }
  void affine_parameters(const Region& r, Parameters<T> p) const {
    const int64_t first = first_channel(cut, r), n = channel_count(cut, r);
    double weight[kUnits], bias[kUnits];
    load_channels(norm.weight, first, n, 1, weight);
    load_channels(norm.bias, first, n, 0, bias);
    T scale[kUnits], shift[kUnits];
    if constexpr (kNorm) {
      const SavedRows<T> s = saved(first);
      affine_of_channels(n, s, weight, bias, scale, shift);
      spread(cut, n, s.mean, p.mean);
      spread(cut, n, scale, p.scale);
      if (kBackward) spread(cut, n, s.rstd, p.rstd);
    } else {
      for (int64_t k = 0; k < n; ++k) shift[k] = T(bias[k]);
    }
    spread(cut, n, shift, p.shift);
  }

  void prepare(const Region& r, Parameters<T> p) const {
    statistics() ? moment_shifts(r, p) : affine_parameters(r, p);
  }
  void finish_forward(const Region& r, const double* s, const double* q, Parameters<T> p) const {
    const int64_t first = first_channel(cut, r), n = channel_count(cut, r);
    T shift[kUnits];
    double mean[kUnits], variance[kUnits];
    first_elements(first, n, shift);
    statistics_of_channels(n, s, q, shift, 1 / count(), batch_norm_formula::bessel(count()),
                           norm.eps, saved(first), mean, variance);
    move_running(norm.running_mean, first, n, mean);
    move_running(norm.running_var, first, n, variance);
    affine_parameters(r, p);
  }
  void move_running(const ChannelVector& v, int64_t first, int64_t n, const double* value) const {
    if (!v.data) return;
    double running[kUnits];
    load_channels(v, first, n, 0, running);
    running_of_channels(n, value, norm.momentum, running);
    store_channels(v, first, n, running);
  }
  void finish_backward(const Region& r, double* s, double* q, Parameters<T> p) const {
    const int64_t first = first_channel(cut, r), n = channel_count(cut, r);
    store_channels(norm.dbias, first, n, s);
    if constexpr (kNorm) {
      T level[kUnits], slope[kUnits];
      corrections_of_channels(n, s, q, 1 / count(), saved(first), level, slope);
      store_channels(norm.dweight, first, n, q);
      spread(cut, n, level, p.level);
      spread(cut, n, slope, p.slope);
    }
  }
  void finish(const Region& r, const double* s, const double* q, int64_t stride, int64_t blocks,
              Parameters<T> p) const {
    double sum_s[kUnits], sum_q[kUnits];
    channel_sums(cut, r, s, stride, blocks, sum_s);
    channel_sums(cut, r, q, stride, blocks, sum_q);
    if constexpr (kForward) {
      finish_forward(r, sum_s, sum_q, p);
    } else {
      finish_backward(r, sum_s, sum_q, p);
    }
  }
  void first_elements(int64_t channel, int64_t n, T* out) const {
    if (norm.inner == 1) {
      const T* from = fetch<T>(norm.x, norm.dtype, channel, n, out);
      if (from != out) store_run<T, T>(out, from, 1, n);
    } else {
      for (int64_t k = 0; k < n; ++k)
        out[k] = *fetch<T>(norm.x, norm.dtype, (channel + k) * norm.inner, 1, out + k);
    }
  }

  // -- the sums' pass

  int64_t element(int64_t row, int64_t unit) const { return (row * cut.units + unit) * cut.unit; }
  // Where the run of memory ends in which the elements of a region follow each other.
  int64_t run_end(const Region& r, int64_t row) const {
    const bool whole = r.units() == cut.units;
    const int64_t last = whole ? r.row_end - 1 : row;
    return element(last, unit_end_in_row(cut, r, last));
  }

  void sum_region(const Region& r, Parameters<T> p, double* s, double* q) const {
    // Below such an eps squares that vanish in the computing type would be missed; above, they
    // overflow only where somebody normalises values of 1e19.
    const bool exact = norm.eps < 1e-25;
    add_region(r, p, s, q, exact);
    if (!statistics() || exact) return;
    if (overflows(r.units(), q)) redo_overflown(r, p, s, q);
  }
  static bool overflows(int64_t n, const double* q) {
    int64_t bad = 0;  // no short cut, which would not vectorise
#pragma GCC ivdep
    for (int64_t u = 0; u < n; ++u) bad |= q[u] - q[u] == 0 ? 0 : 1;
    return bad != 0;
  }
  // Units that overflowed, once more; the others keep their bits whatever their neighbours hold.
  void redo_overflown(const Region& r, Parameters<T> p, double* s, double* q) const {
    double exact_s[kUnits], exact_q[kUnits];
    add_region(r, p, exact_s, exact_q, true);
    for (int64_t u = 0; u < r.units(); ++u) {
      if (q[u] - q[u] == 0) continue;
      s[u] = exact_s[u];
      q[u] = exact_q[u];
    }
  }
  // What the moments are about, in a row of parameters that the apply pass does not need yet.
  void moment_shifts(const Region& r, Parameters<T> p) const {
    T first[kUnits];
    const int64_t channels = channel_count(cut, r);
    first_elements(first_channel(cut, r), channels, first);
    spread(cut, channels, first, p.shift);
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
    // With keep bits in whole rows: drawn here, in the order of memory, a second panel would draw
    // all of them again, and three arrays, where g is stored, want long runs.
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
          add_moment_panel(rows, n, s + i, q + i, x.data, x.stride, p.shift + i);
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
          with_term(fused, [=](auto term) { add_panel(rows, n, s + i, q + i, term); });
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
      add_panel(rows, n, s, q, Pair{term, x.data, x.stride, p.mean, p.rstd});
    } else {
      add_panel(rows, n, s, q, term);
    }
  }
  Strided gradient_panel(const Region& r, int64_t row, int64_t rows, int64_t u, int64_t n,
                         Parameters<T> p, KeepBits& bits, T* scratch) const {
    const int64_t at = element(row, u), i = u - r.unit;
    if (passes_gradient()) return strided(norm.dy, at, rows, n, scratch);
    for (int64_t j = 0; j < rows; ++j) {
      const int64_t from = at + j * cut.units;
      T* to = direct_gradient() ? direct_gradient() + from : scratch + j * kUnits;
      gradient<const T*>(from, n, run_end(r, row + j), factor(p.mean + i), factor(p.scale + i),
                         p.shift + i, bits, to);
      deliver(from, n, to);
    }
    if (direct_gradient()) return {direct_gradient() + at, cut.units};
    return {scratch, kUnits};
  }
  // g is dy, and wanted nowhere else.
  bool passes_gradient() const {
    return epilogue.is_identity() && !epilogue.drops() && !delivers();
  }
  // Memory of the computing type in which g is wanted anyway.
  T* direct_gradient() const { return static_cast<T*>(kept_gradient); }
  bool delivers() const { return norm.dresidual || (!kNorm && norm.dx); }
  void deliver(int64_t at, int64_t n, const T* g) const {
    if (norm.dresidual) put<T>(norm.dresidual, norm.dtype, at, n, g);
    if (!kNorm && norm.dx) put<T>(norm.dx, norm.dtype, at, n, g);
  }
  template <class P>
  static ONEPASS_HD Factor<P> factor(P p) {
    if constexpr (kNorm) {
      return p;
    } else {
      (void)p;
      return {};
    }
  }

  // Whether the sums' pass computes g within the sum itself.
  bool fuses() const {
    return kNorm && kBackward && epilogue.composed() && !passes_gradient() &&
           !norm.epilogue.residual && !delivers() && same_dtype<T>(norm.dtype);
  }
  // Where it does so: rows of x and dy from element `at` on.
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

  // g of elements [at, at + n), n <= kBlockElements.
  template <class P>
  void gradient(int64_t at, int64_t n, int64_t end, Factor<P> mean, Factor<P> scale, P shift,
                KeepBits& bits, T* g) const {
    T x_scratch[kBlockElements], dy_scratch[kBlockElements], residual_scratch[kBlockElements];
    const T* dy = fetch<T>(norm.dy, norm.dtype, at, n, dy_scratch);
    const T* x = nullptr;
    const T* residual = nullptr;
    if (norm.epilogue.activation != Epilogue::kIdentity) {
      x = fetch<T>(norm.x, norm.dtype, at, n, x_scratch);
      if (norm.epilogue.residual)
        residual = fetch<T>(norm.epilogue.residual, norm.dtype, at, n, residual_scratch);
    }
    const uint32_t* words = epilogue.drops() ? bits.at(at, n, end) : nullptr;
    T z[kBlockElements];
    epilogue.template backward<Flush>(n, dy, x, residual, mean, scale, shift, words, z, g);
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
  // Where runs are short the hardware starts over at each: what follows is asked for by hand, one
  // row ahead.
  void ask_for_inputs(int64_t at, int64_t n) const {
    if (kNorm) ask_for<0>(norm.x, at, n);
    if (kBackward) ask_for<0>(norm.dy, at, n);
  }
  void ask_for_output(int64_t at, int64_t n) const {
    if (!stream) ask_for<1>(kForward ? norm.y : norm.dx, at, n);
  }
  template <int kWrite>
  ONEPASS_HD void ask_for(const void* data, int64_t at, int64_t n) const {
    const int64_t size = size_of(norm.dtype);
    const char* from = static_cast<const char*>(data) + at * size;
    for (int64_t i = 0; i < n * size; i += 64) __builtin_prefetch(from + i, kWrite, 2);
  }
  void sum_run(int64_t at, int64_t n, int64_t end, int64_t u, Parameters<T> p, double* s, double* q,
               T* x_scratch, T* g_scratch, KeepBits& bits, bool exact) const {
    using P = Uniform<T>;
    (void)exact;
    const T* x = nullptr;
    if constexpr (kNorm) x = fetch<T>(norm.x, norm.dtype, at, n, x_scratch);
    if constexpr (kForward) {
      const Flush flush;
      add_moment_run(n, s, q, x, P{p.shift[u]}, exact);
    } else if (fuses()) {
      const uint32_t* words = epilogue.drops() ? bits.at(at, n, end) : nullptr;
      const Rows<P> fused{
          at, x, kSumLanes, P{p.mean[u]}, P{p.rstd[u]}, P{p.scale[u]}, P{p.shift[u]}, words, 1};
      const Flush flush;
      with_term(fused, [=](auto term) { add_run(n, s, q, term); });
    } else {
      const Gradient<T> g{plane_gradient(at, n, end, u, p, g_scratch, bits), kSumLanes};
      const Flush flush;
      if constexpr (kNorm) {
        using Pair = GradientPair<T, P, Gradient<T>>;
        add_run(n, s, q, Pair{g, x, kSumLanes, P{p.mean[u]}, P{p.rstd[u]}});
      } else {
        add_run(n, s, q, g);
      }
    }
  }
  const T* plane_gradient(int64_t at, int64_t n, int64_t end, int64_t u, Parameters<T> p,
                          T* scratch, KeepBits& bits) const {
    using P = Uniform<T>;
    if (passes_gradient()) return fetch<T>(norm.dy, norm.dtype, at, n, scratch);
    T* to = direct_gradient() ? direct_gradient() + at : scratch;
    gradient<P>(at, n, end, factor(P{p.mean[u]}), factor(P{p.scale[u]}), P{p.shift[u]}, bits, to);
    deliver(at, n, to);
    return to;
  }

  // -- the apply pass: y, or dx

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
        gradient<P>(at, n, end, factor(mean), factor(scale), shift, bits, g_scratch);
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

  // -- tasks

  // Everything for a region that holds all of its channels.
  static void whole_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const Region r = region_of(call.cut, index);
    alignas(kLine) T memory[Parameters<T>::kCount * kUnits];
    const auto p = Parameters<T>::in(memory, kUnits);
    call.prepare(r, p);
    if (call.sums()) {
      alignas(kLine) double s[kUnits], q[kUnits];
      call.sum_region(r, p, s, q);
      call.finish(r, s, q, 0, 1, p);
    }
    if (call.applies()) call.apply_region(r, p);
  }
  static void sum_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const Region r = region_of(call.cut, index);
    double* s = call.partial + (2 * r.block) * call.cut.units + r.unit;
    call.sum_region(r, call.shared.from(r.unit), s, s + call.cut.units);
  }
  static void finish_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const Region r = channels_of(call.cut, index);
    const double* s = call.partial + r.unit;
    call.finish(r, s, s + call.cut.units, 2 * call.cut.units, call.cut.blocks,
                call.shared.from(r.unit));
  }
  static void prepare_task(void* context, int64_t strip) {
    const Call& call = *static_cast<const Call*>(context);
    const Region r = region_of(call.cut, strip);
    call.prepare(r, call.shared.from(r.unit));
  }
  static void apply_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const int64_t regions = call.cut.regions(), half = regions / 2;
    const int64_t reversed = index < half ? half - 1 - index : regions - 1 - (index - half);
    const Region r = region_of(call.cut, reversed);
    call.apply_region(r, call.shared.from(r.unit));
  }

  void run(void (*task)(void*, int64_t), int64_t tasks) {
    if (norm.outer * norm.channels * norm.inner <= kSerialElements) {
      for (int64_t i = 0; i < tasks; ++i) task(this, i);
    } else {
      parallel_for(tasks, task, this);
    }
  }
  bool draws_ahead() const { return epilogue.drops() && ((kNorm && kBackward) || cut.strips > 1); }
  static constexpr int64_t kDrawn = 2048;  // words of a task
  int64_t words() const { return ceil_div(norm.outer * norm.channels * norm.inner, 32); }
  static void draw_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const int64_t first = index * kDrawn;
    keep_words(call.drawn + first, first, smaller(kDrawn, call.words() - first),
               call.norm.epilogue.dropout);
  }
  void run() {
    if (draws_ahead()) drawn = static_cast<uint32_t*>(malloc(size_t(words() + 1) * 4));
    if (drawn) {
      drawn[words()] = 0;
      run(&draw_task, ceil_div(words(), kDrawn));
    }
    run_passes();
    free(drawn);
  }
  void run_passes() {
    if (cut.blocks == 1) return run(&whole_task, cut.regions());
    const int64_t units = round_up(cut.units, kLine / int64_t(sizeof(T)));
    const size_t bytes = size_t(units) * Parameters<T>::kCount * sizeof(T) +
                         size_t(cut.blocks * cut.units) * 2 * sizeof(double);
    void* allocated = malloc(bytes + kLine);
    if (!allocated) {  // one task a channel group needs none
      cut.one_block();
      return run(&whole_task, cut.regions());
    }
    T* memory = reinterpret_cast<T*>(round_up(reinterpret_cast<intptr_t>(allocated), kLine));
    shared = Parameters<T>::in(memory, units);
    partial = reinterpret_cast<double*>(memory + units * Parameters<T>::kCount);
    for (int64_t i = 0; i < cut.strips; ++i) prepare_task(this, i);
    if (sums()) {
      run(&sum_task, cut.regions());
      run(&finish_task, channel_groups(cut));
    }
    if (applies()) run(&apply_task, cut.regions());
    free(allocated);
  }
};

// Where g can stay between the two passes of backward: the residual's gradient, which it is, or dx.
// Not where recomputing costs less than the extra store.
template <class T>
void* keep_gradient(const BatchNorm& norm, const EpilogueRunner<T>& epilogue, bool is_norm) {
  if (!same_dtype<T>(norm.dtype)) return nullptr;
  if (norm.dresidual) return norm.dresidual;
  if (!is_norm) return norm.dx;
  const bool recomputes = kMaskedLanes || !(epilogue.is_relu() && epilogue.drops());
  if (epilogue.composed() && recomputes) return nullptr;
  return norm.batch_statistics && norm.dx != norm.x ? norm.dx : nullptr;
}

template <class T, bool kNorm, bool kForward>
void run_as(const BatchNorm& norm) {
  const int64_t arrays = kForward ? 1 : 2;
  const Cut cut =
      norm.inner >= kLongPlane ? cut_planes(norm, arrays * size_of(norm.dtype)) : cut_columns(norm);
  const EpilogueRunner<T> epilogue(norm.epilogue);
  const int64_t bytes = norm.outer * norm.channels * norm.inner * int64_t(sizeof(T));
  const bool stream = kForward && same_dtype<T>(norm.dtype) && bytes >= kStreamBytes &&
                      norm.y != norm.x && norm.y != norm.epilogue.residual;
  const bool far = bytes >= kFarBytes;
  void* kept = kForward ? nullptr : keep_gradient<T>(norm, epilogue, kNorm);
  Call<T, kNorm, kForward> call{norm, cut, epilogue, stream, far, kept, {}, nullptr, nullptr};
  call.run();
}
template <bool kNorm, bool kForward>
void run(const BatchNorm& norm) {
  if (norm.dtype == DType::f64) {
    run_as<double, kNorm, kForward>(norm);
  } else {
    run_as<float, kNorm, kForward>(norm);
  }
}

// What the drivers above never see: no element at all. Gradients of vectors are zero, the running
// statistics stay.
void zero_channels(const ChannelVector& v, int64_t channels) {
  const double zeros[kUnits] = {};
  for (int64_t c = 0; c < channels; c += kUnits)
    store_channels(v, c, smaller(kUnits, channels - c), zeros);
}

BatchNorm as_norm(const Channelwise& call) {
  BatchNorm norm{};
  static_cast<Channelwise&>(norm) = call;
  return norm;
}

// saved for an input that is normalised by the running statistics, or has no element.
template <class T>
void save_running(const BatchNorm& norm, int64_t first, int64_t n) {
  T* rows = static_cast<T*>(norm.saved);
  double mean[kUnits], variance[kUnits];
  load_channels(norm.running_mean, first, n, 0, mean);
  load_channels(norm.running_var, first, n, 1, variance);
  for (int64_t k = 0; k < n; ++k) {
    const auto s = batch_norm_formula::save<T>(mean[k], 0, variance[k], norm.eps);
    rows[first + k] = s.mean;
    rows[norm.channels + first + k] = s.lost;
    rows[2 * norm.channels + first + k] = s.rstd;
  }
}
void save_running(const BatchNorm& norm) {
  for (int64_t c = 0; c < norm.channels; c += kUnits) {
    const int64_t n = smaller(kUnits, norm.channels - c);
    norm.dtype == DType::f64 ? save_running<double>(norm, c, n) : save_running<float>(norm, c, n);
  }
}

}  // namespace normalise

ONEPASS_HD bool is_empty(const Channelwise& call) {
  return call.outer == 0 || call.channels == 0 || call.inner == 0;
}

void bias_act(const Channelwise& call) {
  if (!is_empty(call)) normalise::run<false, true>(normalise::as_norm(call));
}

void bias_act_backward(const Channelwise& call) {
  if (is_empty(call)) return normalise::zero_channels(call.dbias, call.channels);
  normalise::run<false, false>(normalise::as_norm(call));
}

void batch_norm(const BatchNorm& norm) {
  if (!norm.batch_statistics || is_empty(norm)) normalise::save_running(norm);
  if (!is_empty(norm)) normalise::run<true, true>(norm);
}

void batch_norm_backward(const BatchNorm& norm) {
  if (!is_empty(norm)) return normalise::run<true, false>(norm);
  normalise::zero_channels(norm.dweight, norm.channels);
  normalise::zero_channels(norm.dbias, norm.channels);
}

}  // namespace
ONEPASS_END
