// The normalise driver: a norm over each channel by any rule (kernels/channel_norm_list.h), or a
// bias, with its epilogue, forward and backward, over dense (outer, channels, inner) arrays.
//
// If a block, or a cluster of blocks, can hold its channels' work, one kernel does everything: it
// sums, finishes the channels and visits what it holds again. Otherwise several blocks share the
// sums, a small kernel combines them in order, and a third applies them: forward in memory order if
// it draws dropout bits, so that neighbouring threads share them, else by channels. Where channels
// are walked over with dropout, a kernel before has drawn its bits into a mask. Sums are in double,
// of x minus the channel's first element, as on the CPU: exact at any magnitude.
#pragma once
#include "cuda/channels.cuh"
#include "cuda/divide.cuh"
#include "cuda/dropout_mask.cuh"
#include "cuda/finish.cuh"
#include "cuda/kept_units.cuh"
#include "cuda/launch.cuh"
#include "cuda/own_parameters.cuh"

ONEPASS_BEGIN
namespace {
namespace normalise {

// How many arrays of a unit the second walk of a whole block needs again: it keeps them.
template <class Call>
ONEPASS_HD int parts_kept(const Call& call) {
  if (!call.backward) return 1;
  return call.residual && call.activation.index != kIdentity ? 3 : 2;
}

// The bytes of a unit of W elements.
template <class Call>
ONEPASS_HD constexpr int bytes_kept(int width) {
  return width * (Call::is_narrow ? 2 : int(sizeof(typename Call::Computing)));
}

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
    sums->q[i] = add_square(d, sums->q[i]);
  }
}

template <int W, bool kColumns, class T, class Call, class Own>
ONEPASS_DEVICE void add_backward(const Call& call, const Own& own, const Unit<T>& unit, int64_t at,
                                 Sums<kColumns ? W : 1>* sums) {
  constexpr int kPart = kColumns ? Own::kPart : W;
  const uint32_t kept = call.drops() ? bits_of_mask<W>(call, at) : 0;
  T all[W];
  ONEPASS_UNROLL
  for (int from = 0; from < W; from += kPart) {
    const auto& mine = own.part(from / kPart);
    const Unit<T> part = part_of<W, kPart>(unit, from);
    T* const g = all + from;
    [[maybe_unused]] T x[kPart];
    gradient_of_unit<kPart, kColumns>(call, mine.p, part, kept >> from, own.scaled, false, g);
    if constexpr (Call::is_norm) decode_x<kPart, kColumns>(call, mine.p, own.scaled, part.x, x);
    ONEPASS_UNROLL
    for (int w = 0; w < kPart; ++w) {
      const int i = kColumns ? w : 0, sum = kColumns ? from + w : 0;
      sums->s[sum] += double(g[w]);
      if constexpr (Call::is_norm)
        sums->q[sum] +=
            double(Call::template Rule<T>::product(g[w], x[w], mine.p[i].mean, mine.p[i].rstd));
    }
  }
  if (call.dresidual) store_unit<W, T>(call.in(call.dresidual), at, all);
  if (!call.is_norm && call.dx) store_unit<W, T>(call.in(call.dx), at, all);
}

// What a whole block keeps from the sums on. Elements that move one by one are not kept.
template <int W, class Call>
using KeptOf = KeptUnits<kThreads, W == 1 ? 4 : bytes_kept<Call>(W) / 4>;
template <bool kForward, class T, class Call, class Kept>
ONEPASS_DEVICE void keep_unit(const Call& call, const Kept& on_chip, int n, const Unit<T>& unit) {
  if (n >= on_chip.units) return;
  on_chip.put(n, 0, unit.x);
  if (!kForward) on_chip.put(n, 1, unit.dy);
  if (!kForward && parts_kept(call) == 3) on_chip.put(n, 2, unit.residual);
}

template <int W, bool kColumns, bool kForward, class T, class Call, class Kept = NoneKept>
ONEPASS_DEVICE Sums<kColumns ? W : 1> sum_share(const Call& call, const Share<W, kColumns>& share,
                                                const Kept& on_chip = Kept()) {
  constexpr int kEach = kColumns ? W : 1;
  Sums<kEach> sums{};
  [[maybe_unused]] T shift[kEach];
  [[maybe_unused]] OwnParameters<T, W, kColumns, kForward, Call> own;
  if constexpr (!kForward)
    own.take(call, share, [&](int64_t c) { return affine_parameters<T>(call, c); });
  if (!share.active) return sums;
  if constexpr (kForward) {
    ONEPASS_UNROLL
    for (int i = 0; i < kEach; ++i)
      shift[i] = load_element<T>(call.in(call.x), share.channel(i) * call.inner);
  }
  const bool needs_x = kForward || call.is_norm || call.activation.index != kIdentity;
  // Beside the activation of eight columns there are registers for one unit.
  constexpr bool kCrowded = kColumns && W == 8 && !Call::is_light;
  constexpr int kTogether = kForward ? 4 : kCrowded ? 1 : 2;
  each_unit<kTogether>(
      share.walk(),
      [&](int64_t at, int) { return fetch_unit<W, T, kForward>(call, at, needs_x, false); },
      [&](const Unit<T>& unit, int64_t at, int n) {
        keep_unit<kForward>(call, on_chip, n, unit);
        if constexpr (kForward) {
          add_forward<W, kColumns>(unit.x, call.dtype(), shift, &sums);
        } else {
          add_backward<W, kColumns>(call, own, unit, at, &sums);
        }
      });
  return sums;
}

// ---- kernels

template <class T, bool kForward, bool kColumns, int W, class Call>
__global__ void __launch_bounds__(kThreads, 2) sum_kernel(const __grid_constant__ Call call) {
  const int64_t group = blockIdx.x % call.path.groups, split = blockIdx.x / call.path.groups;
  const Share<W, kColumns> share(call, group, split, call.path.splits);
  const auto sums = sum_share<W, kColumns, kForward, T>(call, share);
  fold_sums<W, kColumns>(call, share, sums, [&](int64_t c, double s, double q) {
    double* to = call.partials_of(c) + split;
    to[0] = s;
    to[call.path.splits] = q;
  });
}

// By a warp for each channel: adds the partial sums of its blocks, each lane every 32nd, and then
// the lanes; without sums it saves what evaluation, or the moments of all shares, normalise by.
// Then it prepares the parameters.
// Returns whether the channel is scaled.
template <class T, bool kForward, class Call>
ONEPASS_DEVICE bool finish_or_prepare(const Call& call, int64_t c) {
  const bool empty = call.elements() == 0, leads = lane_of(threadIdx.x) == 0;
  if (!empty && call.sums()) {
    double s = 0, q = 0;
    const double* from = call.partials_of(c);
    for (int64_t i = lane_of(threadIdx.x); i < call.path.splits; i += kWarpSize) {
      s += from[i];
      q += from[call.path.splits + i];
    }
    s = warp_fold(s, Plus{});
    q = warp_fold(q, Plus{});
    return leads && finish_channel<T, kForward>(call, c, s, q);
  }
  if (!leads) return false;
  if constexpr (kForward) {
    if (call.phase == Part::whole) save_running<T>(call, c);
    if (call.phase == Part::sums) leave_share(call, c, ShareMoments::none());
    if (call.phase == Part::rest) take_moments<T>(call, c);
  } else if (empty) {
    store_wide(memory(call.dbias), c, 0);
    store_wide(memory(call.dweight), c, 0);
    if (call.phase == Part::sums) leave_share(call, c, ShareSums{0, 0, 0});
    return false;
  }
  if (empty) return false;
  auto p = affine_parameters<T>(call, c);
  if constexpr (Call::is_norm && !kForward)
    if (call.phase == Part::rest) take_sums<T>(call, c, &p);
  store_parameters(call, c, p);
  return p.scales();
}
template <class T, bool kForward, class Call>
__global__ void __launch_bounds__(kThreads, 2) finish_kernel(const __grid_constant__ Call call) {
  ONEPASS_SHARED(uint32_t, parts, [kWarps]);
  const int64_t c = int64_t(blockIdx.x) * kWarps + warp_of(threadIdx.x);
  uint32_t scaled = 0;
  if (c < call.channels) scaled = finish_or_prepare<T, kForward>(call, c) ? 1 : 0;
  scaled = block_fold(scaled, Plus{}, parts);
  if (threadIdx.x == 0) call.scaled[blockIdx.x] = scaled;
}
template <class Call>
ONEPASS_DEVICE bool any_scaled(const Call& call) {
  if (!call.is_norm) return false;
  uint32_t any = 0;
  for (int64_t i = lane_of(threadIdx.x); i < ceil_div(call.channels, kWarps); i += kWarpSize)
    any |= call.scaled[i];
  return warp_any(kFullWarp, any != 0);
}

// The channel of an element and its place in the plane, which follow memory order.
struct Place {
  int64_t channel, rest;
  template <class Call>
  static ONEPASS_DEVICE Place of(const Call& call, int64_t at) {
    const Quotient plane = divide(at, call.inner);
    return {divide(plane.whole, call.channels).rest, plane.rest};
  }
  // `by` is the place of an element of the first channel or a later one.
  template <class Call>
  ONEPASS_DEVICE void move(const Call& call, const Place& by) {
    rest += by.rest;
    channel += by.channel;
    if (rest >= call.inner) {
      rest -= call.inner;
      ++channel;
    }
    if (channel >= call.channels) channel -= call.channels;
  }
};

// Parameters of W elements that follow each other in memory; `place`, which moves behind them, is
// that of the first.
template <int W, class T, class Call>
ONEPASS_DEVICE void parameters_at(const Call& call, Place* place, bool scaled, Parameters<T>* p) {
  if constexpr (W > 1) {
    if (call.packs_parameters) {
      load_parameters<W>(call, place->channel, scaled, p);
      place->channel += W;
      if (place->channel >= call.channels) place->channel -= call.channels;
      return;
    }
  }
  bool same = false;  // the channel of the element before
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) {
    p[w] = same ? p[w == 0 ? 0 : w - 1] : load_parameters<T>(call, place->channel, scaled);
    same = ++place->rest < call.inner;
    if (same) continue;
    place->rest = 0;
    if (++place->channel == call.channels) place->channel = 0;
  }
}

template <class T, int W, class Call>
ONEPASS_DEVICE void apply_unit(const Call& call, int64_t at, Place place, const Unit<T>& unit,
                               uint32_t kept, bool scaled) {
  constexpr int kPart = smaller(W, 4);  // of which the registers hold the parameters
  T v[W];
  ONEPASS_UNROLL
  for (int from = 0; from < W; from += kPart) {
    Parameters<T> p[kPart];
    parameters_at<kPart>(call, &place, scaled, p);
    output<kPart, true>(call, p, part_of<W, kPart>(unit, from), kept >> from, scaled, v + from);
  }
  store_unit<W, T>(call.in(call.y), at, v);
}
template <class Call>
ONEPASS_DEVICE bool backward_needs_x(const Call& call) {
  return call.corrects() || (call.activation.index != kIdentity && !call.gradient());
}

template <class T, int W, class Call>
ONEPASS_DEVICE void apply_tile(const Call& call, int64_t begin, uint32_t word, bool scaled) {
  constexpr int kSteps = 1024 / (kWarpSize * W);
  const int first = lane_of(threadIdx.x) * W;  // in the tile
  const int64_t total = call.elements();
  Place place = Place::of(call, begin + first);
  const Place step_by = Place::of(call, kWarpSize * W);
  Unit<T> next{};
  if (begin + first + W <= total) next = fetch_unit<W, T, true>(call, begin + first, true);
  ONEPASS_NO_UNROLL
  for (int step = 0; step < kSteps; ++step) {
    const int in_tile = step * kWarpSize * W + first;
    const int64_t at = begin + in_tile, following = at + kWarpSize * W;
    const Unit<T> unit = next;
    if (step + 1 < kSteps && following + W <= total)
      next = fetch_unit<W, T, true>(call, following, true);
    const uint32_t kept = warp_shuffle(kFullWarp, word, in_tile / 32) >> (in_tile % 32);
    if (at + W <= total) apply_unit<T, W>(call, at, place, unit, kept, scaled);
    place.move(call, step_by);
  }
}
// Forward in memory order, in tiles of 1024 elements a warp, whose lanes draw dropout's bits
// together. Arrays that are not aligned, and the tile that units do not cover, go one by one.
template <class T, class Call>
__global__ void __launch_bounds__(kThreads, Call::is_narrow ? 3 : 2)
    apply_kernel(const __grid_constant__ Call call, int width) {
  const bool scaled = any_scaled(call);
  const int64_t tiles = ceil_div(call.elements(), 1024);
  const int64_t end = tiles * (int64_t(blockIdx.x) + 1) / gridDim.x;
  int64_t tile = tiles * blockIdx.x / gridDim.x + warp_of(threadIdx.x);
  for (; tile < end; tile += kWarps) {
    const uint32_t word = keep_word_of_lane(call.dropout, tile * 32);
    const bool whole = tile + 1 < tiles || call.elements() % width == 0;
    if (whole && width == kUnit<T>) {
      apply_tile<T, kUnit<T>>(call, tile * 1024, word, scaled);
    } else if (Call::is_narrow && whole && width == 8) {
      apply_tile<T, Call::is_narrow ? 8 : 1>(call, tile * 1024, word, scaled);
    } else {
      apply_tile<T, 1>(call, tile * 1024, word, scaled);
    }
  }
}

template <class T, bool kForward, int W, bool kColumns, class Call, class Kept = NoneKept>
ONEPASS_DEVICE void apply_share(const Call& call, const Share<W, kColumns>& share,
                                const Kept& on_chip = Kept()) {
  if (!call.applies()) return;
  OwnParameters<T, W, kColumns, kForward, Call> own;
  own.take(call, share, [&](int64_t c) { return load_parameters<T>(call, c, true); });
  if (!share.active) return;
  const bool needs_x = kForward || backward_needs_x(call);
  const bool drops = call.drops() && !(call.backward && call.gradient());
  const auto fetch_kept = [&](int64_t at, int n) {
    if (n < on_chip.units) {
      Unit<T> unit{on_chip.get(n, 0), {}, {}};
      if (kForward && call.residual) unit.residual = fetch<W, T>(call.in(call.residual), at);
      if (!kForward) unit.dy = on_chip.get(n, 1);
      if (!kForward && parts_kept(call) == 3) unit.residual = on_chip.get(n, 2);
      return unit;
    }
    return fetch_unit<W, T, kForward>(call, at, needs_x);
  };
  each_unit<2>(share.walk(), fetch_kept, [&](const Unit<T>& unit, int64_t at, int) {
    const uint32_t kept = drops ? bits_of_mask<W>(call, at) : 0;
    if constexpr (kForward) {
      forward_unit<W, kColumns>(call, own.p, unit, at, kept, own.scaled);
    } else {
      backward_unit<W, kColumns>(call, own, unit, at, kept);
    }
  });
}
// By channels, whose parameters stay in registers. It begins where the sums
// ended: that memory may still be in the second-level cache.
template <class T, bool kForward, bool kColumns, int W, class Call>
__global__ void __launch_bounds__(kThreads, 2) share_kernel(const __grid_constant__ Call call) {
  const int64_t block = int64_t(gridDim.x) - 1 - blockIdx.x, groups = call.path.groups;
  apply_share<T, kForward>(
      call, Share<W, kColumns>(call, block % groups, block / groups, gridDim.x / groups));
}

// The sums of a channel in all blocks of its cluster, added as finish_or_prepare adds them.
template <class Sum>
ONEPASS_DEVICE double add_ranks(int ranks, Sum sum) {
  double sums[kMostInCluster];
  ONEPASS_UNROLL
  for (int r = 0; r < int(kMostInCluster); ++r) sums[r] = r < ranks ? sum(r) + 0.0 : 0.0;
  ONEPASS_UNROLL
  for (int bit = 1; bit < int(kMostInCluster); bit *= 2) ONEPASS_UNROLL
  for (int r = 0; r < int(kMostInCluster); r += 2 * bit) sums[r] += sums[r + bit];
  return sums[0];
}

// Sums, what follows, and their use, by the block or the cluster that has the channels: each block
// has a share of their elements, and finishes some of them. Doubles need more registers than two
// blocks of a multiprocessor have.
template <class T, bool kForward, bool kColumns, int W, class Call>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 1 : 2)
    whole_kernel(const __grid_constant__ Call call) {
  // path.kept is 0 where W is 1; said here, it leaves out the code that would keep.
  const auto on_chip = KeptOf<W, Call>::so_many(W == 1 ? 0 : call.path.kept);
  const int ranks = call.path.cluster, rank = int(blockIdx.x % unsigned(ranks));
  const auto meet = [&] { ranks > 1 ? cluster_sync() : block_sync(); };
  const Share<W, kColumns> share(call, blockIdx.x / unsigned(ranks), rank, ranks);
  const auto sums = sum_share<W, kColumns, kForward, T>(call, share, on_chip);
  static_assert(kThreads == kPathThreads && kMostInCluster == kPathCluster);
  ONEPASS_SHARED(double, left, [2][kColumns ? kColumnLanes * W : 1]);
  const int channels = kColumns ? call.path.lanes * W / int(call.inner) : 1;
  const int64_t first = int64_t(blockIdx.x / unsigned(ranks)) * channels;
  fold_sums<W, kColumns>(call, share, sums, [&](int64_t c, double s, double q) {
    left[0][c - first] = s;
    left[1][c - first] = q;
  });
  meet();
  for (int i = rank + ranks * int(threadIdx.x); i < channels; i += ranks * kThreads) {
    const auto all = [&](int which) {
      return add_ranks(ranks, [&](int r) { return load_of_block(&left[which][i], r); });
    };
    if (first + i < call.channels) finish_channel<T, kForward>(call, first + i, all(0), all(1));
  }
  meet();
  if constexpr (Call::is_norm || kForward) apply_share<T, kForward>(call, share, on_chip);
}

// ---- host

inline bool all_aligned(const Channelwise& c, int unit) {
  bool all = true;
  for (const void* data :
       {c.x, c.epilogue.residual, static_cast<const void*>(c.y), c.dy,
        static_cast<const void*>(c.dx), static_cast<const void*>(c.dresidual), c.add})
    all = all && is_aligned(data, c.dtype, unit);
  return all;
}
inline int unit_of(DType dtype) { return dtype == DType::f64 ? 2 : 4; }
// The most elements that a thread can move at once in memory order.
inline int widest(const Channelwise& c) {
  if (size_of(c.dtype) == 2 && all_aligned(c, 8)) return 8;
  return all_aligned(c, unit_of(c.dtype)) ? unit_of(c.dtype) : 1;
}
inline ChannelPath path_of(const Channelwise& c, int arrays_kept) {
  const int unit = all_aligned(c, unit_of(c.dtype)) ? unit_of(c.dtype) : 1;
  return channel_path(c.outer, c.channels, c.inner, unit, widest(c) == 8, c.dy,
                      {arrays_kept, int32_t(size_of(c.dtype))});
}
// Whether keep bits are drawn before the kernels that walk over channels; forward the kernel that
// applies has them, unless it does everything.
inline bool draws_mask(const Channelwise& c, const ChannelPath& path, bool backward) {
  return c.epilogue.dropout.threshold != 0 && (backward || path.whole);
}
inline int64_t parameter_bytes(const Channelwise& c) {
  return ceil_div(c.channels * kParameters * (c.dtype == DType::f64 ? 8 : 4), 16) * 16;
}

// keeps: a pass after the sums needs x, or more, again.
template <class Call>
Call describe(const Channelwise& c, bool backward, bool keeps = false) {
  Call call{};
  call.outer = c.outer;
  call.channels = c.channels;
  call.inner = c.inner;
  call.is_half = c.dtype == DType::f16;
  call.x = c.x;
  call.residual = c.epilogue.residual;
  call.y = c.y;
  call.dy = c.dy;
  call.dx = c.dx;
  call.dresidual = c.dresidual;
  call.add = c.add;
  call.weight = c.weight;
  call.bias = c.bias;
  call.dweight = c.dweight;
  call.dbias = c.dbias;
  call.activation = ChosenActivation::of(c.epilogue.activation, c.epilogue.options);
  call.dropout = c.epilogue.dropout;
  call.backward = backward;
  call.path = path_of(c, keeps ? parts_kept(call) : 0);
  call.parameters = c.workspace;
  call.partial = reinterpret_cast<double*>(static_cast<char*>(c.workspace) + parameter_bytes(c));
  call.scaled = reinterpret_cast<uint32_t*>(call.partial + 2 * c.channels * call.path.splits);
  call.mask = call.scaled + ceil_div(c.channels, kWarps);
  call.packs_parameters = c.inner == 1 && c.channels % unit_of(c.dtype) == 0;
  call.keep_scale = c.dtype == DType::f64
                        ? dropout_scale<double>(c.epilogue.dropout.threshold)
                        : double(dropout_scale<float>(c.epilogue.dropout.threshold));
  return call;
}
template <class Call>
Call describe(const ChannelNorm& n, bool backward) {
  const bool wants = n.dweight.data || n.dbias.data;
  const NormalisePasses passes{
      true, backward, n.batch_statistics, n.dx != nullptr, n.dresidual != nullptr, wants, n.part};
  auto call = describe<Call>(static_cast<const Channelwise&>(n), backward,
                             passes.sums() && passes.applies());
  call.batch_statistics = n.batch_statistics;
  call.running_mean = n.running_mean;
  call.running_var = n.running_var;
  call.momentum = n.momentum;
  call.eps = n.eps;
  call.saved = n.saved;
  call.rmax = n.rmax;
  call.dmax = n.dmax;
  call.phase = n.part;
  call.shares = n.shares;
  call.share_count = n.share_count;
  return call;
}

// What the second walk finds: in shared memory, or in an array of the call.
template <class Call>
void choose_kept(const Channelwise& c, Call* call) {
  if (call->path.cluster > 1 && !this_device().clusters) {
    call->path.whole = false;
    call->path.cluster = 1;
  }
  if (Call::is_norm && call->sums() && call->applies())
    call->path.kept = kept_units(call->path, c.outer, c.inner,
                                 parts_kept(*call) * bytes_kept<Call>(call->path.width),
                                 this_device().most_shared_bytes);
  // The residual's gradient is g: what the first pass wrote, the second reads, unless it was
  // rounded, or the block still has what it follows from.
  if (call->backward && size_of(c.dtype) >= 4 && call->path.kept == 0)
    call->kept_gradient = c.dresidual;
}

// Calls f with the width of the call's path as a constant, and whether it is of columns. 8 is the
// width of 16-bit elements alone: see path_of.
template <class Call, class F>
void with_path(const Call& call, F f) {
  const int width = call.path.width;
  const auto with_width = [&](auto columns) {
    constexpr int kWidth = kUnit<typename Call::Computing>;
    if (width == 1) {
      f(columns, std::integral_constant<int, 1>());
    } else if (width == kWidth) {
      f(columns, std::integral_constant<int, kWidth>());
    } else if constexpr (Call::is_narrow) {
      f(columns, std::integral_constant<int, 8>());
    } else {
      record_error("no kernel has the width of this call along channels");
    }
  };
  call.path.columns ? with_width(std::true_type()) : with_width(std::false_type());
}

// The kernels before the one that applies; returns whether one of them has done all.
template <class T, bool kForward, class Call>
bool run_sums(const Call& call, cudaStream_t stream) {
  const ChannelPath& path = call.path;
  bool whole = call.sums() && path.whole;
  with_path(call, [&](auto columns, auto width) {
    constexpr bool kColumns = decltype(columns)::value;
    constexpr int W = decltype(width)::value;
    if (whole) {
      const auto kernel = &whole_kernel<T, kForward, kColumns, W, Call>;
      Call own = call;
      const int64_t bytes = KeptOf<W, Call>::bytes(path.kept, parts_kept(call));
      const Cluster cluster{unsigned(path.cluster)};
      const bool allowed = bytes == 0 || allows_shared(kernel, bytes);
      if (!allowed) own.path.kept = 0;
      if (path.cluster > 1) whole = allowed && has_room(cluster, kernel, bytes);
      if (whole)
        start_with(cluster, own.path.kept > 0 ? bytes : 0, kernel, path.groups * path.cluster,
                   stream, own);
    }
    if (call.sums() && !whole) {  // backward, z depends on the rule
      using Summed = std::conditional_t<kForward, typename Call::Elements, Call>;
      start(&sum_kernel<T, kForward, kColumns, W, Summed>, path.groups * path.splits, stream,
            Summed{call});
    }
  });
  if (whole) return true;
  start(&finish_kernel<T, kForward, Call>, ceil_div(call.channels, kWarps), stream, call);
  return false;
}
template <class T, bool kForward, class Call>
void run_apply(const Call& call, int width, cudaStream_t stream) {
  if (!call.applies()) return;
  if constexpr (!Call::is_light && kForward)
    if (call.drops()) {
      const auto apply = &apply_kernel<T, Call>;
      start(apply, persistent_blocks(apply, ceil_div(call.elements(), 1024)), stream, call, width);
      return;
    }
  with_path(call, [&](auto columns, auto width) {
    const auto apply =
        &share_kernel<T, kForward, decltype(columns)::value, decltype(width)::value, Call>;
    start(apply, call.path.groups * call.path.apply_splits, stream, call);
  });
}
template <class T, bool kForward, class Call>
void run_as(const Call& call, int width, cudaStream_t stream) {
  if (call.elements() == 0) {
    if constexpr (Call::is_norm || !kForward)
      if (call.channels > 0)
        start(&finish_kernel<T, kForward, Call>, ceil_div(call.channels, kWarps), stream, call);
    return;
  }
  if constexpr (Call::is_norm || !kForward)
    if (run_sums<T, kForward>(call, stream)) return;
  if constexpr (Call::is_norm || kForward)
    run_apply<T, kForward>(typename Call::Elements{call}, width, stream);
}
template <bool kForward, class Call>
void run(const Channelwise& c, const Call& call) {
  if (!c.workspace && c.channels > 0)
    return record_error("a call along channels needs a workspace");
  if constexpr (!Call::is_light) {
    const bool applies = call.applies() && !(call.backward && call.gradient());
    const bool uses = kForward ? call.sums() && applies : call.sums() || applies;
    if (uses && draws_mask(c, call.path, !kForward))
      draw_mask<true>({reinterpret_cast<uint8_t*>(call.mask), ceil_div(call.elements(), 32) * 32,
                       call.dropout, true, c.stream, nullptr});
  }
  run_as<typename Call::Computing, kForward>(call, widest(c), static_cast<cudaStream_t>(c.stream));
}

// Calls f with a type of call that fits.
template <template <class> class R, bool kLight, class F>
void with_stored(DType dtype, F f) {
  switch (stored_of(dtype)) {
    case Stored::f64:
      return f(CallOf<R, kLight, Stored::f64>());
    case Stored::f32:
      return f(CallOf<R, kLight, Stored::f32>());
    case Stored::narrow:
      return f(CallOf<R, kLight, Stored::narrow>());
  }
}
template <template <class> class R, class F>
void with_call(const Channelwise& c, F f) {
  is_light(c.epilogue) ? with_stored<R, true>(c.dtype, f) : with_stored<R, false>(c.dtype, f);
}

template <template <class> class R, bool kForward, class Description>
void run(const Description& d) {
  with_call<R>(d, [&](auto kind) {
    auto call = describe<decltype(kind)>(d, !kForward);
    choose_kept(d, &call);
    run<kForward>(d, call);
  });
}

}  // namespace normalise

// Enough for every path that a call of these arrays may have.
inline int64_t channelwise_workspace(const Channelwise& c) {
  int64_t splits = 1;
  bool draws = false;
  for (int arrays = 0; arrays <= 3; ++arrays) {
    const ChannelPath path = normalise::path_of(c, arrays);
    splits = larger(splits, path.splits);
    draws = draws || normalise::draws_mask(c, path, c.dy);
  }
  const int64_t masked = draws ? c.outer * c.channels * c.inner : 0;
  return normalise::parameter_bytes(c) + 16 * c.channels * splits +
         4 * (ceil_div(c.channels, kWarps) + ceil_div(masked, 32));
}

// Templates, so that a unit has the kernels of what it names.
template <bool kForward>
void bias_act(const Channelwise& c) {
  if (kForward && c.outer * c.channels * c.inner == 0) return;
  normalise::run<BiasRule, kForward>(c);
}
template <template <class> class R>
void channel_norm(const ChannelNorm& n) {
  normalise::run<R, true>(n);
}
template <template <class> class R>
void channel_norm_backward(const ChannelNorm& n) {
  normalise::run<R, false>(n);
}

}  // namespace
ONEPASS_END
