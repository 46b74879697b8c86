// The driver of losses of elements (kernels/loss.h): value, gradient and sum. In the first launch a
// warp does a tile, which is a block of core/squares.h; in the second a block adds the sums of the
// tiles. The bits are those of the CPU.
#pragma once
#include "cuda/columns.cuh"
#include "cuda/table_builder.cuh"
#include "kernels/loss.h"

ONEPASS_BEGIN
namespace {
namespace losses {

template <class L, class T>
struct Call {
  L loss;
  T scale = 1;  // of the gradient
  TableShape shape;
  double* sums = nullptr;  // of the tiles; null: not wanted
};

// One tile, in units of W elements.
template <class L, class T, int W>
struct Tile {
  static constexpr int kUnits = kSlots / W;  // of each lane in a row of columns
  const Call<L, T>& call;
  const Entry<kLossOperands>& entry;

  ONEPASS_DEVICE bool has(int o) const { return entry.data[o] != nullptr; }
  static ONEPASS_HD constexpr bool reads(int o) {
    return o == kLossInput || o == kLossTarget || (o == kLossPosWeight && kHasPosWeight<L>);
  }
  ONEPASS_DEVICE LossTerm<T> term(T x, T t, T w) const {
    if constexpr (kTakesProbabilities<L>)
      if (no_probability(x) || no_probability(t)) x = math::quiet_nan<T>();
    return loss_term(call.loss, x, t, w, call.scale);
  }
  ONEPASS_DEVICE double lone(const int64_t* offset) const {
    T v[kLossOperands];
    ONEPASS_UNROLL
    for (int o = 0; o < kLossOperands; ++o)
      v[o] = reads(o) && has(o) ? load_element<T>(entry.operand(o), offset[o]) : T(1);
    const LossTerm<T> found = term(v[kLossInput], v[kLossTarget], v[kLossPosWeight]);
    store_element<T>(entry.operand(kLossGradient), offset[kLossGradient], found.gradient);
    if (has(kLosses)) store_element<T>(entry.operand(kLosses), offset[kLosses], found.loss);
    return double(found.loss);
  }
  ONEPASS_DEVICE void unit(int64_t at, const Raw* raw, double* slots) const {
    T v[kLossOperands][W], gradient[W], value[W];
    ONEPASS_UNROLL
    for (int o = 0; o < kLossOperands; ++o)
      if (reads(o) && has(o)) decode<W, T>(raw[o], entry.dtype(o), v[o]);
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) {
      const bool weighted = reads(kLossPosWeight) && has(kLossPosWeight);
      const LossTerm<T> found =
          term(v[kLossInput][w], v[kLossTarget][w], weighted ? v[kLossPosWeight][w] : T(1));
      gradient[w] = found.gradient;
      value[w] = found.loss;
      slots[w] += double(found.loss);
    }
    store_unit<W, T>(entry.operand(kLossGradient), at, gradient);
    if (has(kLosses)) store_unit<W, T>(entry.operand(kLosses), at, value);
  }
  // The elements from `begin` on, dense and aligned.
  ONEPASS_DEVICE void units(int64_t begin, double* slots) const {
    ONEPASS_NO_UNROLL
    for (int row = 0; row < int(kTile) / kColumns; ++row) {
      ONEPASS_UNROLL
      for (int u = 0; u < kUnits; ++u) {
        const int64_t at =
            begin + row * kColumns + int64_t((u * kWarpSize + lane_of(threadIdx.x)) * W);
        if (at + W <= entry.size) {
          Raw raw[kLossOperands];
          ONEPASS_UNROLL
          for (int o = 0; o < kLossOperands; ++o)
            if (reads(o) && has(o)) raw[o] = fetch<W, T>(entry.operand(o), at);
          unit(at, raw, slots + u * W);
          continue;
        }
        ONEPASS_UNROLL
        for (int w = 0; w < W; ++w) {  // the tensor ends within the unit
          if (at + w >= entry.size) break;
          int64_t offset[kLossOperands];
          ONEPASS_UNROLL
          for (int o = 0; o < kLossOperands; ++o) offset[o] = at + w;
          slots[u * W + w] += lone(offset);
        }
      }
    }
  }
  ONEPASS_DEVICE void elements(const unsigned char* table, int64_t begin, double* slots) const {
    ONEPASS_NO_UNROLL
    for (int row = 0; row < int(kTile) / kColumns; ++row) {
      ONEPASS_UNROLL
      for (int u = 0; u < kSlots; ++u) {
        const int64_t at = begin + row * kColumns + u * kWarpSize + lane_of(threadIdx.x);
        if (at >= entry.size) continue;
        int64_t offset[kLossOperands];
        offsets_of<true>(entry, table, at, offset);
        slots[u] += lone(offset);
      }
    }
  }
};

// Blocks of a multiprocessor. Where two would spill registers, one.
template <class L, class T>
constexpr int kLossBlocks = sizeof(T) == 8 || kHasPosWeight<L> ? 1 : 2;

template <class L, class T>
__global__ void __launch_bounds__(kThreads, kLossBlocks<L, T>)
    pointwise_loss_kernel(const __grid_constant__ Call<L, T> call,
                          const __grid_constant__ Table<kSmallTable> table) {
  const TableView view{table.bytes, nullptr, call.shape};  // of one tensor: it is always here
  for (TileWalk<kLossOperands> walk(call.shape, view); walk.has_tile(); walk.next()) {
    const Entry<kLossOperands>& entry = walk.entry();
    const int64_t begin = walk.begin();
    const auto run = [&](auto width) {
      constexpr int W = decltype(width)::value;
      const Tile<L, T, W> tile{call, entry};
      double slots[kSlots];
      ONEPASS_UNROLL
      for (int c = 0; c < kSlots; ++c) slots[c] = 0;
      if constexpr (W == 1) {
        tile.elements(view.fixed(), begin, slots);
      } else {
        tile.units(begin, slots);
      }
      if (!call.sums) return;
      const double sum = fold_columns<W>(slots);
      if (lane_of(threadIdx.x) == 0) call.sums[begin / kTile] = sum;
    };
    if (entry.path == Path::units) run(std::integral_constant<int, kUnit<T>>());
    if constexpr (sizeof(T) == 4)
      if (entry.path == Path::narrow_units) run(std::integral_constant<int, 8>());
    if (entry.path == Path::elements) run(std::integral_constant<int, 1>());
  }
}

template <class = void>
__global__ void __launch_bounds__(kThreads, 2)
    finish_pointwise_loss(const double* sums, int64_t tiles, double divisor, ChannelVector loss) {
  ONEPASS_SHARED(double, columns, [kColumns]);
  const double sum = sum_of_columns(sums, 0, tiles, columns);
  if (threadIdx.x == 0) store_wide(memory(loss), 0, sum / divisor);
}

// ---- host

template <class L, class T>
void run_as(const PointwiseLoss& call) {
  TableBuilder<T, kLossOperands> builder(true);
  builder.fill(
      &call.tensor, 0, 1, kSmallTable, 0, [](const Tensor& t) { return t.operands; },
      [](const Tensor&, int64_t) { return 0; });
  const auto stream = static_cast<cudaStream_t>(call.stream);
  const bool wanted = call.loss.data != nullptr;
  if (!builder.empty()) {
    const auto& bytes = builder.finish(std::vector<double>(), {});
    Call<L, T> arguments{make_functor<L, T>(call.hyper), T(1 / call.divisor), builder.shape(),
                         wanted ? static_cast<double*>(call.workspace) : nullptr};
    const auto kernel = &pointwise_loss_kernel<L, T>;
    with_inline_table<kSmallTable>(bytes, [&](const auto& table) {
      start(kernel, persistent_blocks(kernel, arguments.shape.tiles), stream, arguments, table);
    });
  }
  if (wanted)
    start(&finish_pointwise_loss<>, 1, stream, static_cast<const double*>(call.workspace),
          ceil_div(call.tensor.size, kTile), call.divisor, call.loss);
}

}  // namespace losses

template <template <class> class L>
void pointwise_loss(const PointwiseLoss& call) {
  if (call.tensor.computing == DType::f64) {
    losses::run_as<L<double>, double>(call);
  } else {
    losses::run_as<L<float>, float>(call);
  }
}
inline int64_t pointwise_loss_workspace(const PointwiseLoss& call) {
  return ceil_div(call.tensor.size, kTile) * int64_t(sizeof(double));
}

}  // namespace
ONEPASS_END
