// The normalise driver: a norm over each channel by any rule (kernels/norm_list.h), or a bias, with
// its epilogue, forward and backward, over dense (outer, channels, inner) arrays.
//
// If a block can hold its channels' work, one kernel does everything: it sums, finishes the
// channels and visits the memory again while it is in cache. Otherwise several blocks share the
// sums, a small kernel combines them in order, and a third applies them in memory order, so that
// neighbouring threads share drawn dropout bits. Sums are in double, of x minus the channel's first
// element, as on the CPU: exact at any magnitude.
#pragma once
#include "cuda/channels.cuh"
#include "cuda/finish.cuh"
#include "cuda/launch.cuh"

ONEPASS_BEGIN
namespace {
namespace normalise {

// ---- a thread's sums

template <int W, bool kColumns, class T>
ONEPASS_DEVICE void add_forward(const Raw& raw, DType dtype, const T* shift,
                                Sums<kColumns ? W : 1>* sums) {
  T x[W];
  decode<W, T>(raw, dtype, x);
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) {
    const int i = kColumns ? w : 0;
    const double d = double(x[w]) - double(shift[i]);
    sums->s[i] += d;
    sums->q[i] += d * d;
  }
}

template <int W, bool kColumns, class T, class Call>
ONEPASS_DEVICE void add_backward(const Call& call, const Parameters<T>* p, const Unit<T>& unit,
                                 int64_t at, bool scaled, Sums<kColumns ? W : 1>* sums) {
  T g[W];
  [[maybe_unused]] T x[W];
  gradient_of_unit<W, kColumns>(call, p, unit, call.drops() ? keep_bits<W>(call, at) : 0, scaled,
                                false, g);
  if (call.dresidual) store_unit<W, T>(call.in(call.dresidual), at, g);
  if (!call.is_norm && call.dx) store_unit<W, T>(call.in(call.dx), at, g);
  if constexpr (Call::is_norm) decode_x<W, kColumns>(call, p, scaled, unit.x, x);
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) {
    const int i = kColumns ? w : 0;
    sums->s[i] += double(g[w]);
    if constexpr (Call::is_norm)
      sums->q[i] += double(Call::template Rule<T>::product(g[w], x[w], p[i].mean, p[i].rstd));
  }
}

template <int W, bool kColumns, bool kForward, class T, class Call>
ONEPASS_DEVICE Sums<kColumns ? W : 1> sum_share(const Call& call, const Share<W, kColumns>& share) {
  constexpr int kEach = kColumns ? W : 1;
  Sums<kEach> sums{};
  T shift[kEach];
  Parameters<T> p[kEach];
  if (!share.active) return sums;
  bool scaled = false;
  ONEPASS_UNROLL
  for (int i = 0; i < kEach; ++i) {
    if (kForward) {
      shift[i] = load_element<T>(call.in(call.x), (share.channel + i) * call.inner);
    } else {
      p[i] = affine_parameters<T>(call, share.channel + i);
      scaled = scaled || p[i].scales();
    }
  }
  const bool needs_x = kForward || call.is_norm || call.activation != kIdentity;
  int64_t at = share.first < share.end ? share.at(share.first) : 0;
  Unit<T> next{};
  if (share.first < share.end) next = fetch_unit<W, T, kForward>(call, at, needs_x, false);
  ONEPASS_NO_UNROLL
  for (int64_t u = share.first; u < share.end; u += share.step) {
    const Unit<T> unit = next;
    const int64_t now = at;
    if (u + share.step < share.end) {
      at = share.at(u + share.step);
      next = fetch_unit<W, T, kForward>(call, at, needs_x, false);
    }
    if constexpr (kForward) {
      add_forward<W, kColumns>(unit.x, call.dtype, shift, &sums);
    } else {
      add_backward<W, kColumns>(call, p, unit, now, scaled, &sums);
    }
  }
  return sums;
}

// ---- kernels

template <class T, bool kForward, bool kColumns, int W, class Call>
ONEPASS_DEVICE void sum_block(const Call& call) {
  const int64_t group = blockIdx.x % call.path.groups, split = blockIdx.x / call.path.groups;
  const Share<W, kColumns> share(call, group, split, call.path.splits);
  const auto sums = sum_share<W, kColumns, kForward, T>(call, share);
  fold_sums<W, kColumns>(call, share, sums, [&](int64_t c, double s, double q) {
    double* to = call.partial + 2 * split * call.channels + c;
    to[0] = s;
    to[call.channels] = q;
  });
}
template <class T, bool kForward, bool kColumns, class Call>
__global__ void __launch_bounds__(kThreads, 2) sum_kernel(const __grid_constant__ Call call) {
  if (call.path.width == 1) {
    sum_block<T, kForward, kColumns, 1>(call);
  } else {
    sum_block<T, kForward, kColumns, kUnit<T>>(call);
  }
}

// Without sums: saves what evaluation normalises by, and prepares the parameters. Returns whether
// the channel is scaled.
template <class T, bool kForward, class Call>
ONEPASS_DEVICE bool finish_or_prepare(const Call& call, int64_t c) {
  const bool empty = call.elements() == 0;
  if (!empty && call.sums()) {
    double s = 0, q = 0;
    const double* from = call.partial + c;
    for (int64_t i = 0; i < call.path.splits; ++i) {
      s += from[2 * i * call.channels];
      q += from[(2 * i + 1) * call.channels];
    }
    return finish_channel<T, kForward>(call, c, s, q);
  }
  if constexpr (kForward) {
    save_running<T>(call, c);
  } else if (empty) {
    store_wide(memory(call.dbias), c, 0);
    store_wide(memory(call.dweight), c, 0);
    return false;
  }
  if (empty) return false;
  const auto p = affine_parameters<T>(call, c);
  store_parameters(call, c, p);
  return p.scales();
}
template <class T, bool kForward, class Call>
__global__ void __launch_bounds__(kThreads, 2) finish_kernel(const __grid_constant__ Call call) {
  ONEPASS_SHARED(uint32_t, parts, [kWarps]);
  const int64_t c = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  uint32_t scaled = 0;
  if (c < call.channels) scaled = finish_or_prepare<T, kForward>(call, c) ? 1 : 0;
  scaled = block_fold(scaled, Plus{}, parts);
  if (threadIdx.x == 0) call.scaled[blockIdx.x] = scaled;
}
template <class Call>
ONEPASS_DEVICE bool any_scaled(const Call& call) {
  if (!call.is_norm) return false;
  uint32_t any = 0;
  for (int64_t i = 0; i < ceil_div(call.channels, kThreads); ++i) any |= call.scaled[i];
  return any != 0;
}

// Parameters of W elements that follow each other in memory.
template <int W, class T, class Call>
ONEPASS_DEVICE void parameters_at(const Call& call, int64_t at, bool scaled, Parameters<T>* p) {
  int64_t plane = at / call.inner, rest = at - plane * call.inner;
  int64_t c = plane % call.channels;
  p[0] = load_parameters<T>(call, c, scaled);
  ONEPASS_UNROLL
  for (int w = 1; w < W; ++w) {
    p[w] = p[w - 1];
    if (++rest == call.inner) {
      rest = 0;
      if (++c == call.channels) c = 0;
      p[w] = load_parameters<T>(call, c, scaled);
    }
  }
}

template <class T, bool kForward, int W, class Call>
ONEPASS_DEVICE void apply_unit(const Call& call, int64_t at, const Unit<T>& unit, uint32_t kept,
                               bool scaled) {
  Parameters<T> p[W];
  parameters_at<W>(call, at, scaled, p);
  if constexpr (kForward) {
    forward_unit<W, true>(call, p, unit, at, kept, scaled);
  } else {
    backward_unit<W, true>(call, p, unit, at, kept, scaled);
  }
}
template <class Call>
ONEPASS_DEVICE bool backward_needs_x(const Call& call) {
  return call.corrects() || (call.activation != kIdentity && !call.kept_gradient);
}

template <class T, bool kForward, int W, class Call>
ONEPASS_DEVICE void apply_tile(const Call& call, int64_t begin, uint32_t word, bool scaled) {
  constexpr int kSteps = 1024 / (kWarpSize * W);
  const int first = lane_of(threadIdx.x) * W;  // in the tile
  const bool needs_x = kForward || backward_needs_x(call);
  const int64_t total = call.elements();
  Unit<T> next{};
  if (begin + first + W <= total) next = fetch_unit<W, T, kForward>(call, begin + first, needs_x);
  ONEPASS_NO_UNROLL
  for (int step = 0; step < kSteps; ++step) {
    const int in_tile = step * kWarpSize * W + first;
    const int64_t at = begin + in_tile, following = at + kWarpSize * W;
    const Unit<T> unit = next;
    if (step + 1 < kSteps && following + W <= total)
      next = fetch_unit<W, T, kForward>(call, following, needs_x);
    const uint32_t kept = warp_shuffle(kFullWarp, word, in_tile / 32) >> (in_tile % 32);
    if (at + W <= total) apply_unit<T, kForward, W>(call, at, unit, kept, scaled);
  }
}
// In memory order, in tiles of 1024 elements a warp. Arrays that are not aligned, and the tile that
// units do not cover, go one by one.
template <class T, bool kForward, class Call>
__global__ void __launch_bounds__(kThreads, 2)
    apply_kernel(const __grid_constant__ Call call, bool aligned) {
  const bool scaled = any_scaled(call);
  const int64_t tiles = ceil_div(call.elements(), 1024);
  const int64_t end = tiles * (int64_t(blockIdx.x) + 1) / gridDim.x;
  int64_t tile = tiles * blockIdx.x / gridDim.x + warp_of(threadIdx.x);
  for (; tile < end; tile += kWarps) {
    const uint32_t word = call.drops() ? keep_word_of_lane(call.dropout, tile * 32) : 0;
    if (aligned && (tile + 1 < tiles || call.elements() % kUnit<T> == 0)) {
      apply_tile<T, kForward, kUnit<T>>(call, tile * 1024, word, scaled);
    } else {
      apply_tile<T, kForward, 1>(call, tile * 1024, word, scaled);
    }
  }
}

template <class T, bool kForward, int W, bool kColumns, class Call>
ONEPASS_DEVICE void apply_share(const Call& call, const Share<W, kColumns>& share) {
  if (!share.active || !call.applies()) return;
  constexpr int kEach = kColumns ? W : 1;
  Parameters<T> p[kEach];
  bool scaled = false;
  ONEPASS_UNROLL
  for (int i = 0; i < kEach; ++i) {
    p[i] = load_parameters<T>(call, share.channel + i, true);
    scaled = scaled || p[i].scales();
  }
  const bool needs_x = kForward || backward_needs_x(call);
  for (int64_t u = share.first; u < share.end; u += share.step) {
    const int64_t at = share.at(u);
    const Unit<T> unit = fetch_unit<W, T, kForward>(call, at, needs_x);
    const bool draws = call.drops() && !(call.backward && call.kept_gradient);
    const uint32_t kept = draws ? keep_bits<W>(call, at) : 0;
    if constexpr (kForward) {
      forward_unit<W, kColumns>(call, p, unit, at, kept, scaled);
    } else {
      backward_unit<W, kColumns>(call, p, unit, at, kept, scaled);
    }
  }
}
// Sums, what follows, and their use, by the block that has the channels.
template <class T, bool kForward, bool kColumns, int W, class Call>
ONEPASS_DEVICE void whole_block(const Call& call) {
  const Share<W, kColumns> share(call, blockIdx.x, 0, 1);
  const auto sums = sum_share<W, kColumns, kForward, T>(call, share);
  fold_sums<W, kColumns>(call, share, sums, [&](int64_t c, double s, double q) {
    finish_channel<T, kForward>(call, c, s, q);
  });
  block_sync();
  if constexpr (Call::is_norm || kForward) apply_share<T, kForward>(call, share);
}
template <class T, bool kForward, bool kColumns, class Call>
__global__ void __launch_bounds__(kThreads, 2) whole_kernel(const __grid_constant__ Call call) {
  if (call.path.width == 1) {
    whole_block<T, kForward, kColumns, 1>(call);
  } else {
    whole_block<T, kForward, kColumns, kUnit<T>>(call);
  }
}

// ---- host

inline bool all_aligned(const Channelwise& c, int unit) {
  bool all = true;
  for (const void* data : {c.x, c.epilogue.residual, static_cast<const void*>(c.y), c.dy,
                           static_cast<const void*>(c.dx), static_cast<const void*>(c.dresidual)})
    all = all && is_aligned(data, c.dtype, unit);
  return all;
}
inline int unit_of(DType dtype) { return dtype == DType::f64 ? 2 : 4; }
inline BatchNormPath path_of(const Channelwise& c) {
  const int unit = unit_of(c.dtype);
  return batch_norm_path(c.outer, c.channels, c.inner, all_aligned(c, unit) ? unit : 1);
}
inline int64_t parameter_bytes(const Channelwise& c) {
  return ceil_div(c.channels * kParameters * (c.dtype == DType::f64 ? 8 : 4), 16) * 16;
}

template <template <class> class R>
CallOf<R> describe_as(const Channelwise& c, bool backward) {
  CallOf<R> call{};
  call.outer = c.outer;
  call.channels = c.channels;
  call.inner = c.inner;
  call.dtype = c.dtype;
  call.x = c.x;
  call.residual = c.epilogue.residual;
  call.y = c.y;
  call.dy = c.dy;
  call.dx = c.dx;
  call.dresidual = c.dresidual;
  call.weight = c.weight;
  call.bias = c.bias;
  call.dweight = c.dweight;
  call.dbias = c.dbias;
  call.activation = c.epilogue.activation;
  const int64_t options = option_count(c.epilogue.activation, Activations{});
  for (int64_t i = 0; i < options; ++i) call.options[i] = c.epilogue.options[i];
  call.dropout = c.epilogue.dropout;
  call.backward = backward;
  call.path = path_of(c);
  call.parameters = c.workspace;
  call.partial = reinterpret_cast<double*>(static_cast<char*>(c.workspace) + parameter_bytes(c));
  call.scaled = reinterpret_cast<uint32_t*>(call.partial + 2 * c.channels * call.path.splits);
  // The residual's gradient is g: what the first pass wrote, the second reads, unless it was
  // rounded.
  if (backward && size_of(c.dtype) >= 4) call.kept_gradient = c.dresidual;
  return call;
}
template <template <class> class R>
CallOf<R> describe(const ChannelNorm& n, bool backward) {
  auto call = describe_as<R>(n, backward);
  call.batch_statistics = n.batch_statistics;
  call.running_mean = n.running_mean;
  call.running_var = n.running_var;
  call.momentum = n.momentum;
  call.eps = n.eps;
  call.saved = n.saved;
  return call;
}

// The kernels before apply_kernel; returns whether one of them has done all.
template <class T, bool kForward, class Call>
bool run_sums(const Call& call, cudaStream_t stream) {
  const BatchNormPath& path = call.path;
  if (call.sums() && path.whole) {
    start(path.columns ? &whole_kernel<T, kForward, true, Call>
                       : &whole_kernel<T, kForward, false, Call>,
          path.groups, stream, call);
    return true;
  }
  if (call.sums())
    start(
        path.columns ? &sum_kernel<T, kForward, true, Call> : &sum_kernel<T, kForward, false, Call>,
        path.groups * path.splits, stream, call);
  start(&finish_kernel<T, kForward, Call>, ceil_div(call.channels, kThreads), stream, call);
  return false;
}
template <class T, bool kForward, class Call>
void run_as(const Call& call, bool aligned, cudaStream_t stream) {
  if (call.elements() == 0) {
    if constexpr (Call::is_norm || !kForward)
      if (call.channels > 0)
        start(&finish_kernel<T, kForward, Call>, ceil_div(call.channels, kThreads), stream, call);
    return;
  }
  if constexpr (Call::is_norm || !kForward)
    if (run_sums<T, kForward>(call, stream)) return;
  if constexpr (Call::is_norm || kForward) {
    if (!call.applies()) return;
    const auto apply = &apply_kernel<T, kForward, Call>;
    start(apply, persistent_blocks(apply, ceil_div(call.elements(), 1024)), stream, call, aligned);
  }
}
template <bool kForward, class Call>
void run(const Channelwise& c, const Call& call) {
  if (!c.workspace) return record_error("a call along channels needs a workspace");
  const bool aligned = all_aligned(c, unit_of(c.dtype));
  const auto stream = static_cast<cudaStream_t>(c.stream);
  if (c.dtype == DType::f64) {
    run_as<double, kForward>(call, aligned, stream);
  } else {
    run_as<float, kForward>(call, aligned, stream);
  }
}

}  // namespace normalise

inline int64_t channelwise_workspace(const Channelwise& c) {
  return normalise::parameter_bytes(c) + 16 * c.channels * normalise::path_of(c).splits +
         4 * ceil_div(c.channels, kThreads);
}

// Templates, so that a unit has the kernels of what it names.
template <class = void>
void bias_act(const Channelwise& c) {
  if (c.outer * c.channels * c.inner > 0)
    normalise::run<true>(c, normalise::describe_as<BiasRule>(c, false));
}
template <class = void>
void bias_act_backward(const Channelwise& c) {
  normalise::run<false>(c, normalise::describe_as<BiasRule>(c, true));
}
template <template <class> class R>
void channel_norm(const ChannelNorm& n) {
  normalise::run<true>(n, normalise::describe<R>(n, false));
}
template <template <class> class R>
void channel_norm_backward(const ChannelNorm& n) {
  normalise::run<false>(n, normalise::describe<R>(n, true));
}

}  // namespace
ONEPASS_END
