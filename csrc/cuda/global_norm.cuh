// The driver of the global norm: the norm of a list of tensors after unscaling, and the first
// tensor that holds Inf or NaN. Deterministic: sizes alone decide the grid, every block writes one
// partial result, and the last block, or a second kernel, combines them in order. It adds squares
// in double, where no float overflows or vanishes; squares of doubles also scaled by two powers of
// two, of which one is in range where the plain sum is not.
#pragma once
#include "core/squares.h"
#include "cuda/table_builder.cuh"
#include "kernels/gradient.h"

ONEPASS_BEGIN
namespace {

// One wave: three for each multiprocessor of an H200, and four run on one (an A100 has 108).
constexpr int64_t kNormBlocks = 396;
constexpr int64_t kNone = int64_t(1) << 62;

struct NormPartial {
  double sum, clamped;
  int64_t first_nonfinite;  // kNone: none
  // The sums of the squares of float64 values times kDown, and times kUp.
  double large = 0, clamped_large = 0, small = 0, clamped_small = 0;
};

struct GlobalNormCall {
  TableShape shape;
  NormOrder order = NormOrder::two;
  double unscale = 1, max_value = GradientRider::kNoLimit;
  DeviceNumber grad_scale;
  NormPartial* partials = nullptr;
  int64_t first = 0, count = 0;  // of this launch's, and of all together
  GlobalNormResult* result = nullptr;
  uint32_t* ticket = nullptr;  // null: another kernel combines them
};

ONEPASS_DEVICE double combine(NormOrder order, double total, double value) {
  return order == NormOrder::inf ? LargerOrNan{}(total, value) : total + value;
}

// kPlain: the 2-norm of dense floats without a limit. In double their squares are exact and no sum
// of them overflows, so a sum that is not finite has met an element that is not: one test a tile.
template <class T, bool kPlain>
struct NormSum {
  NormOrder order;
  T unscale, max_value;
  double sum, clamped;
  int64_t first_nonfinite;
  double large = 0, clamped_large = 0, small = 0, clamped_small = 0;

  ONEPASS_DEVICE void add(T g, int64_t position) {
    if constexpr (kPlain) {
      sum = add_square(double(g * unscale), sum);
    } else {
      const T v = g * unscale;
      const T limited = clamp_gradient(v, max_value);
      sum = combine(order, sum, term(v));
      clamped = combine(order, clamped, term(limited));
      if constexpr (sizeof(T) == 8) {
        large += square(v * kDown);
        clamped_large += square(limited * kDown);
        small += square(v * kUp);
        clamped_small += square(limited * kUp);
      }
      if (!math::isfinite(v)) first_nonfinite = Smaller{}(first_nonfinite, position);
    }
  }
  ONEPASS_DEVICE void end_of_tile(int64_t position) {
    if constexpr (kPlain)
      if (first_nonfinite == kNone && !math::isfinite(sum)) first_nonfinite = position;
  }
  ONEPASS_DEVICE double term(T v) const {
    const double wide = math::abs(double(v));
    return order == NormOrder::two ? wide * wide : wide;
  }

  ONEPASS_DEVICE static double square(double v) { return v * v; }
  // A float's squares are in range, so the scaled sums of them follow from the plain one.
  ONEPASS_DEVICE NormPartial partial() const {
    if constexpr (sizeof(T) == 8)
      return {sum, clamped, first_nonfinite, large, clamped_large, small, clamped_small};
    const double limited = kPlain ? sum : clamped;
    return {sum,
            limited,
            first_nonfinite,
            sum * kDown * kDown,
            limited * kDown * kDown,
            sum * kUp * kUp,
            limited * kUp * kUp};
  }

  // The whole units of a tile, of which several are on their way before the first is needed. Units
  // are counted from the tile's first, in 32 bits: of 64, the limits and addresses of each would
  // take more registers than the units.
  template <int W>
  ONEPASS_DEVICE void units(const Entry<1>& entry, int64_t begin, int tile) {
    constexpr int kTogether = kPlain ? 4 : 2;
    // All of 16 bits take narrow_units, so that the others are of T.
    constexpr int kBytes = W == kUnit<T> ? int(sizeof(T)) : 2;
    const DType dtype = W == kUnit<T> ? dtype_of<T>::value : entry.dtype(0);
    const Memory from{entry.data[0] + begin * kBytes, dtype};
    const int first = begin < 0 ? 1 : 0;  // the lead is less than a unit
    const int end = int(smaller(entry.size - begin, int64_t(tile)) / W);
    ONEPASS_NO_UNROLL
    for (int u = lane_of(threadIdx.x); u < end; u += kTogether * kWarpSize) {
      Raw raw[kTogether];
      ONEPASS_UNROLL
      for (int j = 0; j < kTogether; ++j)
        if (is_whole(u + j * kWarpSize, first, end))
          raw[j] = fetch<W, T>(from, (u + j * kWarpSize) * W);
      ONEPASS_UNROLL
      for (int j = 0; j < kTogether; ++j) {
        if (!is_whole(u + j * kWarpSize, first, end)) continue;
        T v[W];
        decode<W, T>(raw[j], dtype, v);
        ONEPASS_UNROLL
        for (int w = 0; w < W; ++w) add(v[w], entry.number);
      }
    }
  }
  ONEPASS_DEVICE static bool is_whole(int unit, int first, int end) {
    return unit >= first && unit < end;
  }
  ONEPASS_DEVICE void elements(const Entry<1>& entry, const unsigned char* table, Range range) {
    ONEPASS_NO_UNROLL
    for (int64_t at = range.from + lane_of(threadIdx.x); at < range.to; at += kWarpSize) {
      int64_t offset[1];
      offsets_of<!kPlain>(entry, table, at, offset);
      add(load_element<T>(entry.operand(0), offset[0]), entry.number);
    }
  }
};

struct CombineInOrder {
  NormOrder order;
  ONEPASS_DEVICE double operator()(double a, double b) const { return combine(order, a, b); }
};

// Folds the partials of all threads of the block; every thread gets the result.
ONEPASS_DEVICE NormPartial fold_norm(NormOrder order, NormPartial p) {
  ONEPASS_SHARED(double, sums, [kWarps]);
  ONEPASS_SHARED(int64_t, positions, [kWarps]);
  p.sum = block_fold(p.sum, CombineInOrder{order}, sums);
  p.clamped = block_fold(p.clamped, CombineInOrder{order}, sums);
  p.first_nonfinite = block_fold(p.first_nonfinite, Smaller{}, positions);
  return p;
}

ONEPASS_DEVICE NormPartial fold_scaled(NormPartial p) {
  ONEPASS_SHARED(double, sums, [kWarps]);
  const CombineInOrder add{NormOrder::two};
  p.large = block_fold(p.large, add, sums);
  p.clamped_large = block_fold(p.clamped_large, add, sums);
  p.small = block_fold(p.small, add, sums);
  p.clamped_small = block_fold(p.clamped_small, add, sums);
  return p;
}

// Every element is finite, but a sum of squares is not in the range of numbers. `plain` has been
// folded.
ONEPASS_DEVICE void combine_scaled(const GlobalNormCall& call, const NormPartial& plain) {
  NormPartial p{0, 0, kNone};
  for (int64_t i = threadIdx.x; i < call.count; i += kThreads) {
    const NormPartial& other = call.partials[i];
    p.large += other.large;
    p.clamped_large += other.clamped_large;
    p.small += other.small;
    p.clamped_small += other.clamped_small;
  }
  p = fold_scaled(p);
  if (threadIdx.x != 0) return;
  const Root free = root_of(plain.sum, p.large, p.small);
  const Root clamped = root_of(plain.clamped, p.clamped_large, p.clamped_small);
  GlobalNormResult result{free.root * free.power, clamped.root * clamped.power, -1};
  if (!math::isfinite(result.clamped_norm)) {
    result.unit = 0x1p64;
    result.clamped_norm = clamped.root * (clamped.power / result.unit);
  }
  *call.result = result;
}

// One block combines all partials in a fixed order.
ONEPASS_DEVICE void combine_partials(const GlobalNormCall& call) {
  const NormOrder order = call.order;
  NormPartial p{0, 0, kNone};
  for (int64_t i = threadIdx.x; i < call.count; i += kThreads) {
    const NormPartial& other = call.partials[i];
    p.sum = combine(order, p.sum, other.sum);
    p.clamped = combine(order, p.clamped, other.clamped);
    p.first_nonfinite = Smaller{}(p.first_nonfinite, other.first_nonfinite);
  }
  p = fold_norm(order, p);
  if (order == NormOrder::two && p.first_nonfinite == kNone &&
      !(is_sound(p.sum) && is_sound(p.clamped)))
    return combine_scaled(call, p);
  if (threadIdx.x != 0) return;
  const bool root = order == NormOrder::two;
  *call.result = {root ? math::sqrt(p.sum) : p.sum, root ? math::sqrt(p.clamped) : p.clamped,
                  p.first_nonfinite == kNone ? -1 : p.first_nonfinite};
}

template <class T, bool kPlain>
ONEPASS_DEVICE NormPartial fold_block(NormOrder order, const NormSum<T, kPlain>& sum) {
  const NormPartial p = fold_norm(order, sum.partial());
  return sizeof(T) == 8
             ? fold_scaled(p)
             : NormSum<T, kPlain>{order, T(1), T(1), p.sum, p.clamped, p.first_nonfinite}.partial();
}

template <class T, bool kPlain, int64_t kBytes>
__global__ void __launch_bounds__(kThreads, kPlain ? 4 : 2)
    global_norm_kernel(const __grid_constant__ GlobalNormCall call,
                       const __grid_constant__ Table<kBytes> table) {
  const TableView view = table.view(call.shape);
  const T unscale =
      call.grad_scale.data ? unscale_of<T>(value_of(call.grad_scale)) : T(call.unscale);
  NormSum<T, kPlain> sum{call.order, unscale, T(call.max_value), 0, 0, kNone};
  const int tile = call.shape.tile;
  for (TileWalk<1, 0> walk(call.shape, view); walk.has_tile(); walk.next()) {
    const Entry<1>& entry = walk.entry();
    const int64_t begin = walk.begin();
    if (entry.path == Path::units) sum.template units<kUnit<T>>(entry, begin, tile);
    if constexpr (sizeof(T) == 4)
      if (entry.path == Path::narrow_units) sum.template units<8>(entry, begin, tile);
    ONEPASS_NO_UNROLL
    for (int i = 0; i < 2; ++i)
      sum.elements(entry, view.fixed(), rest_of_tile<T>(entry, begin, tile, i));
    sum.end_of_tile(entry.number);
  }
  const NormPartial p = fold_block(call.order, sum);
  if (threadIdx.x == 0) call.partials[call.first + blockIdx.x] = p;
  if (call.ticket && is_last_block(call.ticket)) combine_partials(call);
}

template <class = void>
__global__ void __launch_bounds__(kThreads, 2)
    finish_global_norm(const __grid_constant__ GlobalNormCall call) {
  combine_partials(call);
}

// ---- host

constexpr int64_t kPartialBytes = (2 * kNormBlocks * int64_t(sizeof(NormPartial)) + 15) / 16 * 16;

inline int64_t global_norm_workspace(const GlobalNorm& call) {
  return kPartialBytes + table_bound(call.tensors, call.count, sizeof(Entry<1>), 1, 0, 0);
}

// Launches the partials of one computing type, from `first` on; returns their number. `finishes`:
// no other launch follows, so the last block may combine them all.
template <class T>
int64_t global_norm_as(const GlobalNorm& call, NormPartial* partials, int64_t* taken, int64_t first,
                       bool finishes) {
  TableBuilder<T, 1> builder(false);
  builder.fill(
      call.tensors, 0, call.count, int64_t(1) << 30, 0,
      [&](const Tensor& t) { return t.operands + call.operand; },
      [](const Tensor&, int64_t position) { return position; });
  if (builder.empty()) return 0;
  builder.finish(std::vector<double>(), {});
  const auto stream = static_cast<cudaStream_t>(call.stream);
  const int64_t blocks = smaller(kNormBlocks, ceil_div(builder.shape().tiles, 4));
  GlobalNormCall arguments;
  arguments.order = call.order;
  arguments.unscale = call.unscale;
  arguments.max_value = call.max_value;
  arguments.grad_scale = call.grad_scale;
  arguments.partials = partials;
  arguments.first = first;
  arguments.count = first + blocks;
  arguments.result = call.result;
  arguments.ticket = finishes ? call.ticket : nullptr;
  const bool plain = call.order == NormOrder::two && !(call.max_value < GradientRider::kNoLimit) &&
                     !builder.shape().strided;
  const auto run = [&](const auto& table, const TableShape& shape) {
    constexpr int64_t kBytes = std::decay_t<decltype(table)>::kBytes;
    arguments.shape = shape;
    if constexpr (sizeof(T) == 4)
      if (plain)
        return start(&global_norm_kernel<T, true, kBytes>, blocks, stream, arguments, table);
    start(&global_norm_kernel<T, false, kBytes>, blocks, stream, arguments, table);
  };
  constexpr bool kSmall = sizeof(T) == 4;
  *taken += with_table<kSmall>(builder, 0, TableRoom::of<T>(call, *taken), stream, run);
  return blocks;
}

inline void global_norm(const GlobalNorm& call) {
  if (!call.workspace) return record_error("norm needs a workspace");
  auto* partials = static_cast<NormPartial*>(call.workspace);
  int64_t taken = kPartialBytes;
  const bool two = has_any<double>(call.tensors, call.count);
  int64_t count = global_norm_as<float>(call, partials, &taken, 0, !two);
  if (two) count += global_norm_as<double>(call, partials, &taken, count, true);
  if (call.ticket && count > 0) return;
  GlobalNormCall arguments;
  arguments.order = call.order;
  arguments.partials = partials;
  arguments.count = count;
  arguments.result = call.result;
  start(&finish_global_norm<>, 1, static_cast<cudaStream_t>(call.stream), arguments);
}

}  // namespace
ONEPASS_END
