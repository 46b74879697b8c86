// A norm by any rule, or a bias, on a unit of elements with its channel's parameters:
// affine part, residual, activation, dropout, and their gradients.
#pragma once
#include "core/normalise.h"
#include "cuda/channel_path.h"
#include "cuda/chosen_activation.cuh"
#include "cuda/dropout_bits.cuh"
#include "kernels/bias.h"
#include "kernels/dropout.h"
#include "kernels/norm_range.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

constexpr int32_t kIdentity = Epilogue::kIdentity;

// Kernels for light epilogues are compiled apart: the others' code, and that of dropout's bits,
// would take registers from them.
inline bool is_light(const Epilogue& e) {
  return (e.activation == Epilogue::kIdentity || e.activation == Epilogue::kRelu) &&
         e.dropout.threshold == 0;
}

// How the elements are stored. Kernels know it, except which of the two 16-bit types it is.
enum class Stored { f64, f32, narrow };
inline Stored stored_of(DType t) {
  return t == DType::f64 ? Stored::f64 : t == DType::f32 ? Stored::f32 : Stored::narrow;
}

// The arguments of a kernel.
struct CallData {
  int64_t outer, channels, inner;
  bool is_half;  // of the 16-bit types
  const void *x, *residual, *dy, *kept_gradient, *add;
  void *y, *dx, *dresidual;
  ChannelVector weight, bias, running_mean, running_var, dweight, dbias;
  void *saved, *parameters;
  double* partial;   // [channel][s, q][split]
  uint32_t* scaled;  // a word for each block of finish_kernel: one of its channels is scaled
  double momentum, eps;
  ChosenActivation activation;
  DropoutStream dropout;
  uint32_t* mask;     // its keep bits, 32 in a word, where kernels do not draw them: see draws_mask
  double keep_scale;  // of dropout, in the computing type
  bool batch_statistics, backward;
  bool packs_parameters;  // those of a unit lie together: see load_parameters
  ChannelPath path;
  double rmax, dmax;
  Part phase;
  double* shares;  // see ChannelNorm
  int64_t share_count;
};

template <template <class> class R, bool kLight, Stored kStored>
struct CallOf;
template <class Rule>
struct CallsOf;
template <template <class> class R, class T>
struct CallsOf<R<T>> {
  template <bool kLight, Stored kStored>
  using Call = CallOf<R, kLight, kStored>;
};
// R: the rule of a norm, or BiasRule; kLight: the epilogue is light.
template <template <class> class R, bool kLight, Stored kStored>
struct CallOf : CallData {
  using Computing = std::conditional_t<kStored == Stored::f64, double, float>;
  static constexpr bool is_narrow = kStored == Stored::narrow;
  template <class T>
  using Rule = R<T>;
  static constexpr bool is_norm = R<float>::kScales, is_light = kLight;
  // The same call by the rule of its elements, for kernels that only visit elements.
  using Elements =
      typename CallsOf<typename R<Computing>::Elements>::template Call<kLight, kStored>;

  ONEPASS_HD DType dtype() const {
    if (is_narrow) return is_half ? DType::f16 : DType::bf16;
    return kStored == Stored::f64 ? DType::f64 : DType::f32;
  }
  ONEPASS_HD Memory in(const void* data) const { return memory(data, dtype()); }
  // Where g is in memory, unrounded: never in 16 bits.
  ONEPASS_HD const void* gradient() const { return is_narrow ? nullptr : kept_gradient; }
  ONEPASS_HD int64_t elements() const { return outer * channels * inner; }
  ONEPASS_HD double part() const { return 1 / (double(outer) * double(inner)); }
  ONEPASS_HD double* partials_of(int64_t c) const { return partial + 2 * c * path.splits; }
  ONEPASS_HD bool drops() const { return !kLight && dropout.threshold != 0; }
  ONEPASS_HD NormalisePasses passes() const {
    const bool wants = dweight.data || dbias.data;
    return {is_norm, backward, batch_statistics, dx != nullptr, dresidual != nullptr, wants, phase};
  }
  ONEPASS_HD bool corrects() const { return passes().corrects(); }
  ONEPASS_HD bool sums() const { return passes().sums(); }
  ONEPASS_HD bool applies() const { return passes().applies(); }
};

// The parameters of an element.
template <class T>
struct Parameters {
  T mean, rstd, scale, shift;  // z = (x - mean)·scale + shift
  T level, slope;              // dx = scale·(g - level - (x - mean)·slope)
  T x_scale, g_scale;          // 1 but in rare channels: kernels/norm_range.h
  ONEPASS_HD bool scales() const { return x_scale != T(1) || g_scale != T(1); }
};
constexpr int kParameters = 8;

template <class T, class Call>
ONEPASS_DEVICE typename Call::template Rule<T>::Saved load_saved(const Call& call, int64_t c) {
  using R = typename Call::template Rule<T>;
  const T* rows = static_cast<const T*>(call.saved) + c;
  return R::Rows::template load<typename R::Saved>(rows, call.channels);
}
template <class T, class Call>
ONEPASS_DEVICE Parameters<T> affine_parameters(const Call& call, int64_t c) {
  const double bias = load_wide(memory(call.bias), c, 0);
  if constexpr (Call::is_norm) {
    using R = typename Call::template Rule<T>;
    using Range = NormRange<T>;
    const double weight = load_wide(memory(call.weight), c, 1);
    auto saved = load_saved<T>(call, c);
    auto a = R::affine(saved, weight, bias);
    const bool scales = leaves_range(saved.mean, saved.rstd, a.scale);
    if (scales) {
      saved = in_range<T>(saved);
      a = R::affine(saved, weight, bias);
    }
    return {a.mean,
            saved.rstd,
            a.scale,
            a.shift,
            T(0),
            T(0),
            scales ? Range::kDown : T(1),
            scales ? Range::kGradientDown : T(1)};
  } else {
    return {T(0), T(1), T(1), T(bias), T(0), T(0), T(1), T(1)};
  }
}
// As rows of `channels` values, so that neighbouring channels are neighbours.
template <class T, class Call>
ONEPASS_DEVICE void store_parameters(const Call& call, int64_t c, const Parameters<T>& p) {
  T* row = static_cast<T*>(call.parameters) + c;
  const T values[kParameters] = {p.mean,  p.rstd,  p.scale,   p.shift,
                                 p.level, p.slope, p.x_scale, p.g_scale};
  for (int i = 0; i < kParameters; ++i) row[i * call.channels] = values[i];
}
// scaled: a channel of the call may be.
template <class T, class Call>
ONEPASS_DEVICE Parameters<T> load_parameters(const Call& call, int64_t c, bool scaled) {
  if (!call.is_norm) return affine_parameters<T>(call, c);
  const T* row = static_cast<const T*>(call.parameters) + c;
  const int64_t n = call.channels;
  Parameters<T> p{row[0], row[n], row[2 * n], row[3 * n], row[4 * n], row[5 * n], T(1), T(1)};
  if (scaled) {
    p.x_scale = row[6 * n];
    p.g_scale = row[7 * n];
  }
  return p;
}

// Of W neighbouring channels, c a multiple of W and W a divisor of the number of channels.
template <int W, class T, class Call>
ONEPASS_DEVICE void load_parameters(const Call& call, int64_t c, bool scaled, Parameters<T>* p) {
  if (!call.is_norm) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) p[w] = affine_parameters<T>(call, c + w);
    return;
  }
  const T* rows = static_cast<const T*>(call.parameters) + c;
  Pack<T, W> row[kParameters];
  ONEPASS_UNROLL
  for (int i = 0; i < 6; ++i) row[i] = load_pack<W>(rows + i * call.channels);
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w)
    p[w] = {row[0][w], row[1][w], row[2][w], row[3][w], row[4][w], row[5][w], T(1), T(1)};
  if (!scaled) return;
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) {
    p[w].x_scale = rows[6 * call.channels + w];
    p[w].g_scale = rows[7 * call.channels + w];
  }
}

// ---- a unit of W elements; p has one entry for each (kEach) or one for all

template <int W, class Call>
ONEPASS_DEVICE uint32_t keep_bits(const Call& call, int64_t at) {
  at += call.dropout.first;
  uint32_t bits = keep_word(call.dropout, at / 32) >> (at % 32);
  if (at % 32 + W > 32) bits |= keep_word(call.dropout, at / 32 + 1) << (32 - at % 32);
  return bits;
}

// The same from a mask that was drawn before.
template <int W, class Call>
ONEPASS_DEVICE uint32_t bits_of_mask(const Call& call, int64_t at) {
  uint32_t bits = load_value(call.mask + at / 32) >> (at % 32);
  if (at % 32 + W > 32) bits |= load_value(call.mask + at / 32 + 1) << (32 - at % 32);
  return bits;
}

template <class T>
struct Unit {
  Raw x, dy, residual;
};
template <int W, class T, bool kForward, class Call>
ONEPASS_DEVICE Unit<T> fetch_unit(const Call& call, int64_t at, bool needs_x, bool applies = true) {
  Unit<T> unit{};
  const bool has_gradient = applies && call.gradient();
  if (kForward || needs_x) unit.x = fetch<W, T>(call.in(call.x), at);
  if (!kForward && !has_gradient) unit.dy = fetch<W, T>(call.in(call.dy), at);
  if (call.residual && kForward && applies) unit.residual = fetch<W, T>(call.in(call.residual), at);
  if (call.residual && !kForward && call.activation.index != kIdentity && !has_gradient)
    unit.residual = fetch<W, T>(call.in(call.residual), at);
  return unit;
}

// Elements [from, from + kPart) of a unit.
template <int W, int kPart, class T>
ONEPASS_DEVICE Unit<T> part_of(const Unit<T>& unit, int from) {
  if constexpr (kPart == W) {
    return unit;
  } else {
    static_assert(W == 8 && kPart == 4, "of 16 bits");
    const auto half = [&](const Raw& raw) { return Raw{{raw[from / 2], raw[from / 2 + 1], 0, 0}}; };
    return {half(unit.x), half(unit.dy), half(unit.residual)};
  }
}

// x as decoded, scaled where its channel is.
template <int W, bool kEach, class T, class Call>
ONEPASS_DEVICE void decode_x(const Call& call, const Parameters<T>* p, bool scaled, const Raw& raw,
                             T* x) {
  decode<W, T>(raw, call.dtype(), x);
  if (!scaled) return;
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) x[w] *= p[kEach ? w : 0].x_scale;
}
// z from x.
template <int W, bool kEach, class T, class Call>
ONEPASS_DEVICE void affine(const Call& call, const Parameters<T>* p, const Raw& residual, T* x) {
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) {
    const Parameters<T>& a = p[kEach ? w : 0];
    if constexpr (Call::is_norm) {
      x[w] = Call::template Rule<T>::normalise(x[w], a.mean, a.scale, a.shift);
    } else {
      x[w] = Call::template Rule<T>::normalise(x[w], Absent{}, Absent{}, a.shift);
    }
  }
  if (!call.residual) return;
  T r[W];
  decode<W, T>(residual, call.dtype(), r);
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) x[w] = x[w] + r[w];
}
template <int W, class T, class Call>
ONEPASS_DEVICE void drop(const Call& call, uint32_t kept, T* v) {
  if (!call.drops()) return;
  const Dropout<T> dropout{T(call.keep_scale)};
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) v[w] = dropout(v[w], Keep::of(kept, w));
}

// y of W elements.
template <int W, bool kEach, class T, class Call>
ONEPASS_DEVICE void output(const Call& call, const Parameters<T>* p, const Unit<T>& unit,
                           uint32_t kept, bool scaled, T* v) {
  decode_x<W, kEach>(call, p, scaled, unit.x, v);
  affine<W, kEach>(call, p, unit.residual, v);
  activate_in<W>(call, v);
  drop<W>(call, kept, v);
}
template <int W, bool kEach, class T, class Call>
ONEPASS_DEVICE void forward_unit(const Call& call, const Parameters<T>* p, const Unit<T>& unit,
                                 int64_t at, uint32_t kept, bool scaled) {
  T v[W];
  output<W, kEach>(call, p, unit, kept, scaled, v);
  store_unit<W, T>(call.in(call.y), at, v);
}

// scaled: x is; scale_g: the result is too.
template <int W, bool kEach, class T, class Call>
ONEPASS_DEVICE void gradient_of_unit(const Call& call, const Parameters<T>* p, const Unit<T>& unit,
                                     uint32_t kept, bool scaled, bool scale_g, T* g) {
  decode<W, T>(unit.dy, call.dtype(), g);
  if (scale_g) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) g[w] *= p[kEach ? w : 0].g_scale;
  }
  drop<W>(call, kept, g);
  if (call.activation.index == kIdentity) return;
  T z[W];
  decode_x<W, kEach>(call, p, scaled, unit.x, z);
  affine<W, kEach>(call, p, unit.residual, z);
  activate_backward_in<W>(call, z, g);
}

// dx of W elements without what is added to it; `at`: of kept_gradient.
template <int W, bool kEach, class T, class Call>
ONEPASS_DEVICE void input_gradient(const Call& call, const Parameters<T>* p, const Unit<T>& unit,
                                   int64_t at, uint32_t kept, bool scaled, T* g) {
  using R = typename Call::template Rule<T>;
  if (call.gradient()) {
    load_unit<W, T>(call.in(call.gradient()), at, g);
    if (scaled) {
      ONEPASS_UNROLL
      for (int w = 0; w < W; ++w) g[w] *= p[kEach ? w : 0].g_scale;
    }
  } else {
    gradient_of_unit<W, kEach>(call, p, unit, kept, scaled, scaled, g);
  }
  if (call.corrects()) {
    T x[W];
    decode_x<W, kEach>(call, p, scaled, unit.x, x);
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) {
      const Parameters<T>& a = p[kEach ? w : 0];
      g[w] = R::input_gradient(g[w], x[w], a.mean, a.scale, a.level, a.slope);
    }
  } else {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) g[w] = R::input_gradient(g[w], p[kEach ? w : 0].scale);
  }
  if (scaled) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) g[w] *= p[kEach ? w : 0].x_scale / p[kEach ? w : 0].g_scale;
  }
}
template <int W, bool kEach, class T, class Call, class Own>
ONEPASS_DEVICE void backward_unit(const Call& call, const Own& own, const Unit<T>& unit, int64_t at,
                                  uint32_t kept) {
  constexpr int kPart = kEach ? Own::kPart : W;
  T g[W];
  ONEPASS_UNROLL
  for (int from = 0; from < W; from += kPart) {
    const auto& mine = own.part(from / kPart);
    input_gradient<kPart, kEach>(call, mine.p, part_of<W, kPart>(unit, from), at + from,
                                 kept >> from, own.scaled, g + from);
  }
  if (call.add) {
    T add[W];
    load_unit<W, T>(call.in(call.add), at, add);
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) g[w] = add[w] + g[w];
  }
  store_unit<W, T>(call.in(call.dx), at, g);
}

}  // namespace normalise
}  // namespace
ONEPASS_END
