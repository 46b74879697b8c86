// The elementwise driver: one launch over a list of tensors of any dtype and layout, for every
// functor (activations, dropout, optimizer updates), two where float64 and others are mixed. Riders
// (unscale, clip by value and by norm, skip, zero) are composed with the update, in registers. The
// same bits as on the CPU, but that the CPU takes subnormal moments for zero.
#pragma once
#include "core/signature.h"
#include "cuda/table.cuh"
#include "kernels/dropout.h"
#include "kernels/gradient.h"

ONEPASS_BEGIN
namespace {

constexpr int kNoGradient = -1;
constexpr int kGradientOperand = 1;  // params, grads, states…

template <class T>
struct ElementwiseCall {
  TableShape shape;
  DropoutStream random;
  PrepareGradient<T> prepare;
  const NormResult* norm;
  double coefficient, max_norm;
  bool zero_grad, skip_nonfinite;
};

// What the update sees, settled once per thread: a norm may be on its way only now.
template <class T>
struct Ride {
  PrepareGradient<T> prepare;
  bool zero_grad, skip;
};
template <class T>
ONEPASS_DEVICE Ride<T> ride(const ElementwiseCall<T>& call) {
  Ride<T> r{call.prepare, call.zero_grad, false};
  if (!call.norm) return r;
  r.skip = call.skip_nonfinite && call.norm->first_nonfinite >= 0;
  if (call.max_norm > 0)
    r.prepare.coefficient =
        T(call.coefficient * clip_coefficient(call.max_norm, call.norm->clamped_norm));
  return r;
}

template <class K, class T, int kGradient>
struct Runner {
  using S = Signature<K>;
  static constexpr int kArity = int(S::arity);
  K k;
  Ride<T> ride;

  static ONEPASS_HD constexpr bool reads(int o) { return S::reads(size_t(o)); }
  ONEPASS_DEVICE bool stores(int o) const {
    if (o == kGradient) return ride.zero_grad;
    return S::writes(size_t(o)) && !ride.skip;
  }

  // v[operand] of one element
  template <size_t... I>
  ONEPASS_DEVICE void apply(T* v, bool kept, std::index_sequence<I...>) const {
    if constexpr (S::draws) {
      v[0] = k(v[I + 1]..., Keep{kept});
    } else if constexpr (S::returns) {
      v[0] = k(v[I + 1]...);
    } else if constexpr (kGradient >= 0) {
      Ridden<K, T, false>{k, ride.prepare}(v[I]...);
      if (ride.zero_grad) v[kGradient] = T(0);
    } else {
      k(v[I]...);
    }
  }
  ONEPASS_DEVICE void apply(T* v, bool kept) const {
    apply(v, kept, std::make_index_sequence<size_t(kArity) - (S::returns ? 1 : 0)>{});
  }

  ONEPASS_DEVICE void element(const Entry<kArity>& entry, const int64_t* offset, bool kept) const {
    T v[kArity];
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      v[o] = reads(o) ? load_element<T>(entry.operand(o), offset[o]) : T(0);
    apply(v, kept);
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      if (stores(o)) store_element<T>(entry.operand(o), offset[o], v[o]);
  }

  // A unit that hangs over an end of the tensor.
  template <int W>
  ONEPASS_DEVICE void part_of_unit(const Entry<kArity>& entry, int64_t at, uint32_t kept) const {
    for (int w = 0; w < W; ++w) {
      if (at + w < 0 || at + w >= entry.size) continue;
      int64_t offset[kArity];
      ONEPASS_UNROLL
      for (int o = 0; o < kArity; ++o) offset[o] = at + w;
      element(entry, offset, kept >> w & 1);
    }
  }

  // A tile, kTogether units of each thread at a time: all their loads first.
  template <int W>
  ONEPASS_DEVICE void units(const Entry<kArity>& entry, int64_t begin, uint32_t word) const {
    constexpr int kSteps = int(kTileElements) / (kWarpSize * W);
    constexpr int kTogether = smaller(kSteps, kArity > 3 ? 2 : 4);
    const int lane = lane_of(threadIdx.x);
    for (int step = 0; step < kSteps; step += kTogether) {
      Raw raw[kArity][kTogether];
      int64_t at[kTogether];
      bool whole[kTogether];
      ONEPASS_UNROLL
      for (int j = 0; j < kTogether; ++j) {
        at[j] = begin + int64_t((step + j) * kWarpSize + lane) * W;
        whole[j] = at[j] >= 0 && at[j] + W <= entry.size;
      }
      ONEPASS_UNROLL
      for (int o = 0; o < kArity; ++o) {
        if (!reads(o)) continue;
        ONEPASS_UNROLL
        for (int j = 0; j < kTogether; ++j)
          if (whole[j]) raw[o][j] = fetch<W, T>(entry.operand(o), at[j]);
      }
      ONEPASS_UNROLL
      for (int j = 0; j < kTogether; ++j) {
        uint32_t kept = 0;
        if constexpr (S::draws) {
          const int first = (step + j) * kWarpSize * W + lane * W;  // in the tile
          kept = warp_shuffle(kFullWarp, word, first / 32) >> (first % 32);
        }
        if (whole[j]) {
          unit<W>(entry, at[j], raw, j, kept);
        } else {
          part_of_unit<W>(entry, at[j], kept);
        }
      }
    }
  }
  template <int W, int kTogether>
  ONEPASS_DEVICE void unit(const Entry<kArity>& entry, int64_t at,
                           const Raw (&raw)[kArity][kTogether], int j, uint32_t kept) const {
    T v[kArity][W];
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      if (reads(o)) decode<W, T>(raw[o][j], DType(entry.dtype[o]), v[o]);
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) {
      T one[kArity];
      ONEPASS_UNROLL
      for (int o = 0; o < kArity; ++o) one[o] = reads(o) ? v[o][w] : T(0);
      apply(one, kept >> w & 1);
      ONEPASS_UNROLL
      for (int o = 0; o < kArity; ++o) v[o][w] = one[o];
    }
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      if (stores(o)) store_unit<W, T>(entry.operand(o), at, v[o]);
  }

  ONEPASS_DEVICE void elements(const Entry<kArity>& entry, const unsigned char* table,
                               int64_t begin, uint32_t word) const {
    const int lane = lane_of(threadIdx.x);
    for (int step = 0; step < int(kTileElements) / kWarpSize; ++step) {
      const int64_t at = begin + step * kWarpSize + lane;
      bool kept = false;
      if constexpr (S::draws) kept = warp_shuffle(kFullWarp, word, step) >> lane & 1;
      if (at >= entry.size) continue;
      int64_t offset[kArity];
      offsets_of(entry, table, at, offset);
      element(entry, offset, kept);
    }
  }
};

template <class K, class T, int kGradient, class Table>
__global__ void __launch_bounds__(kThreads, 2)
    elementwise_kernel(const __grid_constant__ ElementwiseCall<T> call,
                       const __grid_constant__ Table table) {
  using R = Runner<K, T, kGradient>;
  const unsigned char* bytes = table.data();
  const auto* functors = reinterpret_cast<const K*>(bytes + call.shape.functors);
  const Ride<T> riding = ride(call);
  if (riding.skip && !riding.zero_grad) return;
  for (TileWalk<R::kArity> walk(call.shape, bytes); walk.has_tile(); walk.next()) {
    const Entry<R::kArity>& entry = walk.entry();
    const int64_t begin = walk.begin();
    const R run{functors[entry.row], riding};
    uint32_t word = 0;
    if constexpr (R::S::draws) word = keep_word_of_lane(call.random, begin / 32);
    if (entry.path == Path::units) {
      run.template units<kUnit<T>>(entry, begin, word);
    } else if (sizeof(T) == 4 && entry.path == Path::narrow_units) {
      if constexpr (sizeof(T) == 4) run.template units<8>(entry, begin, word);
    } else {
      run.elements(entry, bytes, begin, word);
    }
  }
}

// ---- host

// The functors of a call, one per row of hyper-parameters.
template <class K, class T>
std::vector<K> functors_of(const Elementwise& call) {
  std::vector<K> made;
  if constexpr (Signature<K>::draws) {
    made.push_back(K{dropout_scale<T>(call.random.threshold)});
  } else {
    for (int64_t r = 0; r < larger(1, call.hyper_rows); ++r)
      made.push_back(make_functor<K, T>(call.hyper + r * call.hyper_size));
  }
  return made;
}

template <class K, class T, int kGradient>
void elementwise_as(const Elementwise& call) {
  using R = Runner<K, T, kGradient>;
  TableBuilder<T, R::kArity> builder(R::S::draws);
  const auto stream = static_cast<cudaStream_t>(call.stream);
  const GradientRider& rider = call.rider;
  std::vector<K> functors;
  // Updates come in long lists; other calls have one tensor, or are cut into several launches.
  constexpr bool kLong = kGradient >= 0;
  for (int64_t first = 0; first < call.count;) {
    const int64_t rows = larger(1, call.hyper_rows);
    const int64_t limit = kLong ? int64_t(1) << 30 : kSmallTable;
    first = builder.fill(call.tensors, first, call.count, limit, rows * int64_t(sizeof(K)),
                         [](const Tensor& t) { return t.operands; });
    if (builder.empty()) return;
    if (functors.empty()) functors = functors_of<K, T>(call);
    const auto& bytes = builder.finish(functors.data(), int64_t(functors.size()));
    const ElementwiseCall<T> arguments{builder.shape(),
                                       call.random,
                                       {T(rider.unscale), T(rider.max_value), T(rider.coefficient)},
                                       rider.norm,
                                       rider.coefficient,
                                       rider.max_norm,
                                       rider.zero_grad,
                                       rider.skip_nonfinite};
    const auto run = [&](const auto& table) {
      using Table = std::decay_t<decltype(table)>;
      const auto kernel = &elementwise_kernel<K, T, kGradient, Table>;
      start(kernel, persistent_blocks(kernel, arguments.shape.tiles), stream, arguments, table);
    };
    if constexpr (kLong) {
      with_table(bytes, call.workspace, stream, run);
    } else if (int64_t(bytes.size()) <= kSmallTable) {
      with_inline_table<kSmallTable>(bytes, run);
    } else {
      record_error("too many rows of hyper-parameters");
    }
  }
}

template <template <class> class K, int kGradient>
void elementwise(const Elementwise& call) {
  elementwise_as<K<float>, float, kGradient>(call);
  elementwise_as<K<double>, double, kGradient>(call);
}

inline int64_t elementwise_workspace(const Elementwise& call) {
  constexpr int64_t kMostOperands = 6, kFunctorBytes = 128;
  return table_bound(call.tensors, call.count, sizeof(Entry<kMostOperands>), kMostOperands,
                     kFunctorBytes, larger(1, call.hyper_rows));
}

}  // namespace
ONEPASS_END
