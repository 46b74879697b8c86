// Results of a row norm with one value for each channel or group: the sums of dweight and dbias,
// and running statistics.
#pragma once
#include "cuda/folds.cuh"
#include "cuda/row_norm_unit.cuh"

ONEPASS_BEGIN
namespace {
namespace row_norms {

// The addends of a column: [i][j], `between` doubles from a column to the next one.
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
  variance *= R::bessel(double(call.row_elements()));
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
