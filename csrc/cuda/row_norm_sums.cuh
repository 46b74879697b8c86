// What row_norm.cuh does to a unit of elements, a row's sums and what follows from them, and the
// kernels for what is one value a channel or group.
#pragma once
#include "cuda/epilogue.cuh"
#include "cuda/folds.cuh"
#include "cuda/launch.cuh"
#include "cuda/row_norm_path.h"
#include "kernels/moments_range.h"
#include "kernels/row_norm_list.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

using normalise::drop;
using normalise::keep_bits;
using normalise::kIdentity;
using normalise::most_options;
using normalise::option_count;
using normalise::Stored;
using normalise::stored_of;
using normalise::Unit;
using normalise::with_activation;

// A light epilogue has no residual either.
inline bool is_light(const RowNorm& n) {
  return normalise::is_light(n.epilogue) && !n.epilogue.residual;
}
// The arguments of a kernel. R: the rule; kLight: the epilogue is light.
template <template <class> class R, bool kLight, Stored kStored>
struct RowCallOf {
  using Computing = std::conditional_t<kStored == Stored::f64, double, float>;
  static constexpr bool is_narrow = kStored == Stored::narrow;
  template <class T>
  using Rule = R<T>;
  static constexpr bool is_light = kLight;
  int64_t outer, groups, channels, inner;
  bool is_half;  // of the 16-bit types
  bool backward;
  bool packs_weights;  // those of a unit can be loaded at once
  const void *x, *residual, *dy, *kept_gradient;
  void *y, *dx, *dresidual;
  ChannelVector weight, bias, running_mean, running_var, dweight, dbias;
  void *saved, *corrections;  // [level, slope, scale of g][row]
  double* moments;            // [row][mean, variance]: for running statistics
  double* partial;            // held: [part][Σg, Σg·x̂][group][column]; else [row][piece][sum]
  double* columns;            // like those of held rows
  double momentum, eps, part;
  double options[most_options(Activations{})];
  DropoutStream dropout;
  double keep_scale;  // of dropout, in the computing type
  int32_t activation;
  RowPath path;

  ONEPASS_HD DType dtype() const {
    if (is_narrow) return is_half ? DType::f16 : DType::bf16;
    return kStored == Stored::f64 ? DType::f64 : DType::f32;
  }
  ONEPASS_HD Memory in(const void* data) const { return memory(data, dtype()); }
  ONEPASS_HD int64_t rows() const { return outer * groups; }
  ONEPASS_HD int64_t row_elements() const { return channels * inner; }
  ONEPASS_HD int64_t elements() const { return rows() * row_elements(); }
  ONEPASS_HD bool drops() const { return !kLight && dropout.threshold != 0; }
  ONEPASS_HD bool adds_residual() const { return !kLight && residual; }
  ONEPASS_HD bool applies() const { return !backward || dx != nullptr; }
  // Each element of a row has a weight, or none has, and those of a unit can be loaded at once.
  ONEPASS_HD bool is_packed() const {
    constexpr bool kWide = kStored == Stored::f64;
    return groups == 1 && inner == 1 && packs_weights &&
           (!weight.data || (weight.dtype == DType::f64) == kWide) &&
           (!bias.data || (bias.dtype == DType::f64) == kWide);
  }
  // Pieces of channels, which have one weight each.
  ONEPASS_HD bool by_channels() const { return backward && inner > 1; }
};

// What an element needs of its row: x̂ = (x - mean)·rstd + offset.
template <class T>
struct RowState {
  T mean, rstd, offset;
  T level, slope;      // dx = rstd·(g·w - level - x̂·slope)
  T x_scale, g_scale;  // 1 but in rare rows: kernels/norm_range.h
};
template <class T, class Call>
ONEPASS_DEVICE RowState<T> state_of(typename Call::template Rule<T>::Saved saved) {
  using Range = NormRange<T>;
  const bool scales = leaves_range(saved.mean, saved.rstd, saved.rstd);
  if (scales) saved = in_range<T>(saved);
  return {saved.mean,
          saved.rstd,
          Call::template Rule<T>::offset(saved),
          T(0),
          T(0),
          scales ? Range::kDown : T(1),
          scales ? Range::kGradientDown : T(1)};
}
template <class T, class Call>
ONEPASS_DEVICE typename Call::template Rule<T>::Saved load_saved(const Call& call, int64_t row) {
  const T* values = static_cast<const T*>(call.saved) + row;
  return {values[0], values[call.rows()], values[2 * call.rows()]};
}

// ---- a unit of W elements

// Of channels `at` and on, which can be loaded at once.
template <int W, class T>
ONEPASS_DEVICE void load_packed(const ChannelVector& v, int64_t at, T otherwise, T* out) {
  const Memory m = memory(v);
  if (!m.data) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) out[w] = otherwise;
    return;
  }
  if constexpr (sizeof(T) == 4) {
    if (m.dtype == DType::f32) {
      ONEPASS_UNROLL
      for (int w = 0; w < W; w += 4) load_unit<4, T>(m, at + w, out + w);
      return;
    }
  }
  load_unit<W, T>(m, at, out);
}
// Of channels `at` and on.
template <int W, class T>
ONEPASS_DEVICE void load_channels(const ChannelVector& v, int64_t at, T otherwise, bool packs,
                                  T* out) {
  const Memory m = memory(v);
  if constexpr (W > 1)
    if (packs && (m.dtype == DType::f64) == (sizeof(T) == 8))
      return load_packed<W>(v, at, otherwise, out);
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) out[w] = T(load_wide(m, at + w, double(otherwise)));
}
// Weights and biases of a unit that begins `rest` elements behind the start of channel `c`, of a
// group whose channels begin at `base`.
template <int W, class T, class Call>
ONEPASS_DEVICE void load_affine(const Call& call, int64_t base, int64_t c, int64_t rest, T* w,
                                T* b) {
  if (call.inner == 1) {
    load_channels<W>(call.weight, base + c, T(1), call.packs_weights, w);
    load_channels<W>(call.bias, base + c, T(0), call.packs_weights, b);
    return;
  }
  w[0] = T(load_wide(memory(call.weight), base + c, 1));
  b[0] = T(load_wide(memory(call.bias), base + c, 0));
  ONEPASS_UNROLL
  for (int i = 1; i < W; ++i) {
    w[i] = w[i - 1];
    b[i] = b[i - 1];
    if (++rest == call.inner) {
      rest = 0;
      ++c;
      w[i] = T(load_wide(memory(call.weight), base + c, 1));
      b[i] = T(load_wide(memory(call.bias), base + c, 0));
    }
  }
}

template <int W, class T, class Call>
ONEPASS_DEVICE Unit<T> fetch_forward(const Call& call, int64_t at) {
  Unit<T> unit{};
  unit.x = fetch<W, T>(call.in(call.x), at);
  if (call.adds_residual()) unit.residual = fetch<W, T>(call.in(call.residual), at);
  return unit;
}
// Of the gradient.
template <class Call>
ONEPASS_DEVICE bool needs_residual(const Call& call) {
  return call.adds_residual() && call.activation != kIdentity;
}
// again: g may have been kept.
template <int W, class T, class Call>
ONEPASS_DEVICE Unit<T> fetch_backward(const Call& call, int64_t at, bool again) {
  Unit<T> unit{};
  const bool kept = again && call.kept_gradient;
  unit.x = fetch<W, T>(call.in(call.x), at);
  unit.dy = fetch<W, T>(call.in(kept ? call.kept_gradient : call.dy), at);
  if (needs_residual(call) && !kept) unit.residual = fetch<W, T>(call.in(call.residual), at);
  return unit;
}

template <int W, class T, class Call>
ONEPASS_DEVICE void add_moments(const Call& call, const Raw& raw, T first, double* s, double* q) {
  T x[W];
  decode<W, T>(raw, call.dtype(), x);
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) {
    const double d = double(x[w]) - double(first);
    *s += d;
    *q = add_square(d, *q);
  }
}
template <int W, class T, class Call>
ONEPASS_DEVICE void hat_of(const Call& call, const RowState<T>& p, const Raw& raw, T* hat) {
  decode<W, T>(raw, call.dtype(), hat);
  if (p.x_scale != T(1)) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) hat[w] *= p.x_scale;
  }
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w)
    hat[w] = Call::template Rule<T>::hat(hat[w], p.mean, p.rstd, p.offset);
}
// z of x̂.
template <int W, class T, class Call>
ONEPASS_DEVICE void affine(const Call& call, const T* hat, const T* weight, const T* bias,
                           const Raw& residual, T* z) {
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) z[w] = Call::template Rule<T>::affine(hat[w], weight[w], bias[w]);
  if (!call.adds_residual()) return;
  T r[W];
  decode<W, T>(residual, call.dtype(), r);
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) z[w] = z[w] + r[w];
}
template <int W, class T, class Call>
ONEPASS_DEVICE void store_output(const Call& call, const RowState<T>& p, const Unit<T>& unit,
                                 const T* weight, const T* bias, int64_t at, uint32_t kept) {
  T v[W];
  hat_of<W>(call, p, unit.x, v);
  affine<W>(call, v, weight, bias, unit.residual, v);
  with_activation<T>(
      call,
      [&](auto activation) {
        ONEPASS_UNROLL
        for (int w = 0; w < W; ++w) v[w] = activation.forward(v[w]);
      },
      normalise::Held{});
  drop<W>(call, kept, v);
  store_unit<W, T>(call.in(call.y), at, v);
}
// g·g_scale and x̂. is_kept: the unit has g in the place of dy.
template <int W, class T, class Call>
ONEPASS_DEVICE void gradient_unit(const Call& call, const RowState<T>& p, const Unit<T>& unit,
                                  const T* weight, const T* bias, uint32_t kept, T g_scale,
                                  bool is_kept, T* g, T* hat) {
  hat_of<W>(call, p, unit.x, hat);
  decode<W, T>(unit.dy, call.dtype(), g);
  if (g_scale != T(1)) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) g[w] *= g_scale;
  }
  if (is_kept) return;
  drop<W>(call, kept, g);
  if (call.activation == kIdentity) return;
  T z[W];
  affine<W>(call, hat, weight, bias, unit.residual, z);
  with_activation<T>(
      call,
      [&](auto activation) {
        ONEPASS_UNROLL
        for (int w = 0; w < W; ++w) g[w] = activation.backward(g[w], z[w]);
      },
      normalise::Held{});
}
// g as it is scaled by `scaled_by`, 1 or the row's scale.
template <int W, class T, class Call>
ONEPASS_DEVICE void store_input_gradient(const Call& call, const RowState<T>& p, const T* g,
                                         const T* hat, const T* weight, T scaled_by, int64_t at) {
  T dx[W];
  const T rest = p.g_scale / scaled_by;
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w)
    dx[w] = Call::template Rule<T>::input_gradient((rest == T(1) ? g[w] : g[w] * rest) * weight[w],
                                                   hat[w], p.rstd, p.level, p.slope);
  if (p.x_scale != p.g_scale) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) dx[w] *= p.x_scale / p.g_scale;
  }
  store_unit<W, T>(call.in(call.dx), at, dx);
}

// ---- what follows from a row's sums

// Sums that have left the range of double, taken again by each lane: slow, and rare.
template <class T, class Call>
ONEPASS_DEVICE void moments_again(const Call& call, int64_t row, double first, double by, double* s,
                                  double* q) {
  *s = *q = 0;
  const int64_t begin = row * call.row_elements();
  for (int64_t i = 0; i < call.row_elements(); ++i) {
    const double d = double(load_element<T>(call.in(call.x), begin + i)) * by - first;
    *s += d;
    *q += d * d;
  }
}
template <class T, class Call>
ONEPASS_DEVICE void gradients_again(const Call& call, int64_t row, const RowState<T>& p, double* s,
                                    double* q) {
  *s = *q = 0;
  const int64_t begin = row * call.row_elements(), base = row % call.groups * call.channels;
  for (int64_t i = 0; i < call.row_elements(); ++i) {
    const auto unit = fetch_backward<1, T>(call, begin + i, false);
    T w[1], b[1], g[1], hat[1];
    load_affine<1>(call, base, i / call.inner, i % call.inner, w, b);
    gradient_unit<1>(call, p, unit, w, b, call.drops() ? keep_bits<1>(call, begin + i) : 0,
                     p.g_scale, false, g, hat);
    *s += double(g[0]) * double(w[0]);
    *q += double(g[0]) * double(w[0]) * double(hat[0]);
  }
}
// stores: in one lane of those that have the row.
template <class T, class Call>
ONEPASS_DEVICE RowState<T> finish_forward(const Call& call, int64_t row, double s, double q,
                                          T first_element, bool stores) {
  using R = typename Call::template Rule<T>;
  const double count = double(call.row_elements()), first = double(first_element);
  typename R::Saved saved;
  // Sums of floats are never out of double's range.
  const double by = sizeof(T) == 8 ? row_moments_scale<T>(s, q, first, count, call.eps) : 0;
  if (by == 0) {
    saved = R::save(s, q, first, call.part, call.eps);
    if constexpr (sizeof(T) == 4)
      if (saved.rstd < math::Format<float>::kMinNormal)
        saved.rstd =
            lower<T>(Call::template Rule<double>::save(s, q, first, call.part, call.eps).rstd);
  } else {
    moments_again<T>(call, row, first * by, by, &s, &q);
    saved = row_of_scaled<R>(s, q, first, by, call.part, call.eps);
  }
  if (stores) {
    T* values = static_cast<T*>(call.saved) + row;
    values[0] = saved.mean;
    values[call.rows()] = saved.lost;
    values[2 * call.rows()] = saved.rstd;
    if (R::kCentres && call.moments) {
      using Wide = BatchNormRule<double>;
      const auto m = moments_of_scaled<Wide>(s, q, first, by == 0 ? 1 : by, call.part);
      call.moments[2 * row] = m.mean;
      call.moments[2 * row + 1] = m.variance;
    }
  }
  return state_of<T, Call>(saved);
}
template <class T, class Call>
ONEPASS_DEVICE void finish_backward(const Call& call, int64_t row, double s, double q,
                                    RowState<T>* p) {
  const bool leaves = sum_leaves_range<T>(s) || sum_leaves_range<T>(q);
  if (leaves) p->g_scale = NormRange<T>::kGradientDown;
  if (leaves && sizeof(T) == 8) {
    gradients_again(call, row, *p, &s, &q);
  } else {
    s *= double(p->g_scale);
    q *= double(p->g_scale);
  }
  const auto c = Call::template Rule<T>::correction(s, q, call.part);
  p->level = c.level;
  p->slope = c.slope;
}

// ---- rows that are walked over

struct Quotient {
  int64_t whole, rest;
};
ONEPASS_DEVICE Quotient divide(int64_t a, int64_t b) {
  if (b == 1) return {a, 0};
  if ((a | b) >> 32) return {a / b, a % b};
  const uint32_t whole = uint32_t(a) / uint32_t(b);
  return {whole, uint32_t(a) - whole * uint32_t(b)};
}
// Where the weights of a row's channels begin.
template <class Call>
ONEPASS_DEVICE int64_t channels_of(const Call& call, int64_t row) {
  return divide(row, call.groups).rest * call.channels;
}

// The units of a thread: u, u + step, … below end, counted from the start of the row; and where
// they begin among the channels. A step needs no division.
template <int W>
struct UnitWalk {
  int64_t u, end, step;
  int64_t c, rest, c_step, rest_step, inner;

  ONEPASS_DEVICE UnitWalk(int64_t first, int64_t last, int64_t by, int64_t inner_elements)
      : u(first), end(last), step(by), inner(inner_elements) {
    const Quotient at = divide(u * W, inner), onward = divide(step * W, inner);
    c = at.whole;
    rest = at.rest;
    c_step = onward.whole;
    rest_step = onward.rest;
  }
  ONEPASS_DEVICE bool exists() const { return u < end; }
  ONEPASS_DEVICE void next() {
    u += step;
    c += c_step;
    rest += rest_step;
    if (rest >= inner) {
      rest -= inner;
      ++c;
    }
  }
};
// Units that are fetched at once: as registers allow.
template <bool kForward, int W, class Call>
constexpr int kTogether = !kForward && (W == 8 || !Call::is_light) ? 1 : 2;
// Calls use(unit, walk) for each unit of a walk, in its order; kAtOnce are fetched at once.
template <int kAtOnce, int W, class Fetch, class Use>
ONEPASS_DEVICE void each_unit(UnitWalk<W> walk, Fetch fetch, Use use) {
  if constexpr (kAtOnce == 1) {
    ONEPASS_NO_UNROLL
    for (; walk.exists(); walk.next()) use(fetch(walk.u), walk);
  } else {
    ONEPASS_NO_UNROLL
    while (walk.exists()) {
      decltype(fetch(int64_t(0))) units[kAtOnce];
      ONEPASS_UNROLL
      for (int j = 0; j < kAtOnce; ++j)
        if (walk.u + j * walk.step < walk.end) units[j] = fetch(walk.u + j * walk.step);
      ONEPASS_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        if (walk.exists()) use(units[j], walk);
        walk.next();
      }
    }
  }
}

// The sums of pieces `first` and on of a row, by a warp; `lanes` threads have one.
template <class T, bool kForward, int W, class Call>
ONEPASS_DEVICE void add_pieces(const Call& call, int64_t row, int64_t first) {
  using R = typename Call::template Rule<T>;
  const int lanes = call.path.lanes, lane = lane_of(threadIdx.x) % lanes;
  const int64_t piece = first + lane_of(threadIdx.x) / lanes, splits = call.path.splits;
  const int64_t begin = row * call.row_elements();
  const int64_t units = (call.by_channels() ? call.inner : call.row_elements()) / W;
  double s = 0, q = 0;
  if (piece < call.path.pieces) {
    const bool one = !call.by_channels();
    int64_t plane = one ? 0 : piece, from = 0, to = units;
    if (splits > 1) {
      plane = piece / splits;  // 0 for one plane
      from = units * (piece - plane * splits) / splits;
      to = units * (piece - plane * splits + 1) / splits;
    }
    const int64_t base = plane * units;
    const UnitWalk<W> walk(base + from + lane, base + to, lanes, one ? 1 : call.inner);
    if constexpr (kForward) {
      const T shift = R::kCentres ? load_element<T>(call.in(call.x), begin) : T(0);
      each_unit<4>(
          walk, [&](int64_t u) { return fetch<W, T>(call.in(call.x), begin + u * W); },
          [&](const Raw& raw, const UnitWalk<W>&) { add_moments<W>(call, raw, shift, &s, &q); });
    } else {
      const auto p = state_of<T, Call>(load_saved<T>(call, row));
      const int64_t weights = channels_of(call, row);
      T w[W], b[W];
      if (!one) load_affine<W>(call, weights, plane, 0, w, b);
      each_unit<kTogether<kForward, W, Call>>(
          walk, [&](int64_t u) { return fetch_backward<W, T>(call, begin + u * W, false); },
          [&](const Unit<T>& unit, const UnitWalk<W>& at) {
            const int64_t element = begin + at.u * W;
            T g[W], hat[W];
            if (one) load_affine<W>(call, weights, at.c, 0, w, b);
            gradient_unit<W>(call, p, unit, w, b, call.drops() ? keep_bits<W>(call, element) : 0,
                             T(1), false, g, hat);
            if (call.dresidual) store_unit<W, T>(call.in(call.dresidual), element, g);
            ONEPASS_UNROLL
            for (int i = 0; i < W; ++i) {
              const double of_g = one ? double(g[i]) * double(w[i]) : double(g[i]);
              s += of_g;
              q += of_g * double(hat[i]);
            }
          });
    }
  }
  ONEPASS_NO_UNROLL
  for (int bit = 1; bit < lanes; bit *= 2) {
    s += warp_shuffle_xor(kFullWarp, s, bit);
    q += warp_shuffle_xor(kFullWarp, q, bit);
  }
  if (lane != 0 || piece >= call.path.pieces) return;
  double* sums = call.partial + (row * call.path.pieces + piece) * 2;
  sums[0] = s;
  sums[1] = q;
}

// By a warp: folds the pieces of a row and leaves what follows for those that apply it.
template <class T, bool kForward, class Call>
ONEPASS_DEVICE void finish_row(const Call& call, int64_t row) {
  const int64_t pieces = call.path.pieces;
  const double* sums = call.partial + row * pieces * 2;
  const Memory weights = memory(call.weight);
  const int64_t base = channels_of(call, row);
  double s = 0, q = 0;
  for (int64_t i = lane_of(threadIdx.x); i < pieces; i += kWarpSize) {
    const double w =
        call.by_channels() ? load_wide(weights, base + divide(i, call.path.splits).whole, 1) : 1.0;
    s += w * sums[2 * i];
    q += w * sums[2 * i + 1];
  }
  s = warp_fold(s, Plus{});
  q = warp_fold(q, Plus{});
  const bool stores = lane_of(threadIdx.x) == 0;
  if constexpr (kForward) {
    const T first = Call::template Rule<T>::kCentres
                        ? load_element<T>(call.in(call.x), row * call.row_elements())
                        : T(0);
    finish_forward<T>(call, row, s, q, first, stores);
  } else {
    auto p = state_of<T, Call>(load_saved<T>(call, row));
    finish_backward<T>(call, row, s, q, &p);
    if (!stores) return;
    T* to = static_cast<T*>(call.corrections) + row;
    to[0] = p.level;
    to[call.rows()] = p.slope;
    to[2 * call.rows()] = p.g_scale;
  }
}

// The units of share `split` of a row, by `threads` threads of which this is `thread`.
template <class T, bool kForward, int W, class Call>
ONEPASS_DEVICE void apply_row(const Call& call, int64_t row, int64_t split, int64_t splits,
                              int thread, int threads) {
  const int64_t begin = row * call.row_elements(), units = call.row_elements() / W;
  const int64_t base = channels_of(call, row);
  auto p = state_of<T, Call>(load_saved<T>(call, row));
  if constexpr (!kForward) {
    const T* from = static_cast<const T*>(call.corrections) + row;
    p.level = from[0];
    p.slope = from[call.rows()];
    p.g_scale = from[2 * call.rows()];
  }
  const UnitWalk<W> walk(units * split / splits + thread, units * (split + 1) / splits, threads,
                         call.inner);
  const bool kept_gradient = call.kept_gradient != nullptr;
  each_unit<kTogether<kForward, W, Call>>(
      walk,
      [&](int64_t u) {
        if constexpr (kForward) {
          return fetch_forward<W, T>(call, begin + u * W);
        } else {
          return fetch_backward<W, T>(call, begin + u * W, true);
        }
      },
      [&](const Unit<T>& unit, const UnitWalk<W>& at) {
        const int64_t element = begin + at.u * W;
        const uint32_t kept =
            call.drops() && (kForward || !kept_gradient) ? keep_bits<W>(call, element) : 0;
        T w[W], b[W];
        load_affine<W>(call, base, at.c, at.rest, w, b);
        if constexpr (kForward) {
          store_output<W>(call, p, unit, w, b, element, kept);
        } else {
          T g[W], hat[W];
          gradient_unit<W>(call, p, unit, w, b, kept, p.g_scale, kept_gradient, g, hat);
          store_input_gradient<W>(call, p, g, hat, w, p.g_scale, element);
        }
      });
}

// ---- one value for each channel or group

// What is added up for a column: [i][j], `between` doubles from a column to the next one.
struct Addends {
  const double* data;
  int64_t outer, inner, outer_step, inner_step, between;
  int64_t products;  // doubles from a Σg to its Σ g·x̂
};
constexpr int kColumnTile = 32;  // columns of a block, fewer where there are few

template <class A>
__global__ void __launch_bounds__(kThreads, 2)
    finish_columns_kernel(A from, int64_t columns, int32_t tile, ChannelVector dweight,
                          ChannelVector dbias) {
  ONEPASS_SHARED(double, all, [2][kThreads]);
  const int thread = int(threadIdx.x), rows = kThreads / tile;
  const int64_t column = int64_t(blockIdx.x) * tile + thread % tile;
  double s = 0, q = 0;
  if (column < columns && from.data) {
    const double* at = from.data + column * from.between;
    int64_t i = thread / tile, j = 0;  // of all addends every `rows`-th
    const int64_t i_step = rows / from.inner, j_step = rows % from.inner;
    j = i % from.inner;
    i = i / from.inner;
    ONEPASS_NO_UNROLL
    while (i < from.outer) {
      double sums[2][4] = {};
      ONEPASS_UNROLL
      for (int k = 0; k < 4; ++k) {
        if (i < from.outer) {
          const double* addend = at + i * from.outer_step + j * from.inner_step;
          sums[0][k] = addend[0];
          sums[1][k] = addend[from.products];
        }
        i += i_step;
        j += j_step;
        if (j >= from.inner) {
          j -= from.inner;
          ++i;
        }
      }
      ONEPASS_UNROLL
      for (int k = 0; k < 4; ++k) {
        s += sums[0][k];
        q += sums[1][k];
      }
    }
  }
  all[0][thread] = s;
  all[1][thread] = q;
  block_sync();
  for (int half = rows / 2; half > 0; half /= 2) {
    if (thread < half * tile) {
      all[0][thread] += all[0][thread + half * tile];
      all[1][thread] += all[1][thread + half * tile];
    }
    block_sync();
  }
  if (thread >= tile || column >= columns) return;
  store_wide(memory(dbias), column, all[0][thread]);
  store_wide(memory(dweight), column, all[1][thread]);
}
inline void finish_columns(const Addends& from, int64_t columns, const ChannelVector& dweight,
                           const ChannelVector& dbias, cudaStream_t stream) {
  constexpr int64_t kBlocks = 132;  // one a multiprocessor
  int32_t tile = kColumnTile;
  while (tile > 4 && ceil_div(columns, tile) < kBlocks) tile /= 2;
  start(&finish_columns_kernel<Addends>, ceil_div(columns, tile), stream, from, columns, tile,
        dweight, dbias);
}

// Running statistics move to the means over outer of a group's rows; a warp has a group.
template <class Call>
__global__ void __launch_bounds__(kThreads, 2)
    move_running_kernel(const __grid_constant__ Call call) {
  const int64_t group = int64_t(blockIdx.x) * kWarps + warp_of(threadIdx.x);
  if (group >= call.groups) return;
  double mean = 0, variance = 0;
  for (int64_t o = lane_of(threadIdx.x); o < call.outer; o += kWarpSize) {
    const double* moments = call.moments + 2 * (o * call.groups + group);
    mean += moments[0] / double(call.outer);
    variance += moments[1] / double(call.outer);
  }
  mean = warp_fold(mean, Plus{});
  variance = warp_fold(variance, Plus{});
  if (lane_of(threadIdx.x) != 0) return;
  using R = BatchNormRule<double>;
  variance = call.momentum == 0 ? 0 : variance * R::bessel(double(call.row_elements()));
  const auto move = [&](const ChannelVector& v, double value) {
    const Memory m = memory(v);
    if (m.data) store_wide(m, group, R::running(load_wide(m, group, 0), value, call.momentum));
  };
  move(call.running_mean, mean);
  move(call.running_var, variance);
}

}  // namespace row_norms
}  // namespace
ONEPASS_END
