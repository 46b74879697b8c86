// A call of a row norm as its kernels see it, and the operations on a unit of W elements of a row.
#pragma once
#include "cuda/divide.cuh"
#include "cuda/epilogue.cuh"
#include "cuda/launch.cuh"
#include "cuda/row_norm_path.h"
#include "kernels/row_norm_list.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

using normalise::drop;
using normalise::keep_bits;
using normalise::kIdentity;
using normalise::Stored;
using normalise::stored_of;
using normalise::Unit;

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
  ChosenActivation activation;
  DropoutStream dropout;
  double keep_scale;  // of dropout, in the computing type
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

// The values of a row that its elements need: x̂ = (x - mean)·rstd + offset.
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
  return call.adds_residual() && call.activation.index != kIdentity;
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
  activate_in<W>(call, v);
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
  if (call.activation.index == kIdentity) return;
  T z[W];
  affine<W>(call, hat, weight, bias, unit.residual, z);
  activate_backward_in<W>(call, z, g);
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

// Where the weights of a row's channels begin.
template <class Call>
ONEPASS_DEVICE int64_t channels_of(const Call& call, int64_t row) {
  return divide(row, call.groups).rest * call.channels;
}

}  // namespace row_norms
}  // namespace
ONEPASS_END
