// Kernels without mistakes, one for each thing that device.h and spare.cuh offer. They must give no
// report in any build of the simulator, the same bits in every order, and compile under nvcc
// without a warning.
#pragma once
#include "spare.cuh"

namespace right {

using namespace onepass::cuda;

ONEPASS_DEVICE int64_t global_thread() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
ONEPASS_DEVICE int64_t grid_threads() { return int64_t(gridDim.x) * blockDim.x; }

ONEPASS_DEVICE float warp_sum(float value) {
  ONEPASS_UNROLL
  for (int bit = kWarpSize / 2; bit > 0; bit /= 2) value += warp_shuffle_xor(kFullWarp, value, bit);
  return value;
}

// Every thread gets the sum over the block. blockDim.x is a multiple of 32, `parts` has 32 places.
ONEPASS_DEVICE float block_sum(float value, float* parts) {
  const int warp = int(threadIdx.x) / kWarpSize, lane = int(threadIdx.x) % kWarpSize;
  const int warps = int(blockDim.x) / kWarpSize;
  value = warp_sum(value);
  block_sync();  // someone may still be reading the parts of the sum before
  if (lane == 0) parts[warp] = value;
  block_sync();
  return warp_sum(lane < warps ? parts[lane] : 0.0f);
}

// y = a x + y, 16 bytes at a time, tail one by one. T float or uint16_t; y aligned to 16 bytes.
template <class T>
struct Axpy {
  T a;
  ONEPASS_DEVICE T operator()(T x, T y) const { return T(a * x + y); }
};
template <class T, class Op>
__global__ void __launch_bounds__(256) elementwise(const T* x, T* y, int64_t n, Op op) {
  constexpr int kWidth = 16 / int(sizeof(T));
  const int64_t packs = n / kWidth;
  for (int64_t i = global_thread(); i < packs; i += grid_threads()) {
    const Pack<T> from = load_pack<kWidth>(x + i * kWidth);
    Pack<T> to = load_pack<kWidth>(y + i * kWidth);
    ONEPASS_UNROLL
    for (int k = 0; k < kWidth; ++k) to[k] = op(from[k], to[k]);
    store_pack(y + i * kWidth, to);
  }
  for (int64_t i = packs * kWidth + global_thread(); i < n; i += grid_threads())
    y[i] = op(x[i], y[i]);
}

// Reverses each run of 8 floats: a pack of two pieces.
__global__ void reverse_eights(const float* x, float* y, int64_t eights) {
  for (int64_t i = global_thread(); i < eights; i += grid_threads()) {
    const Pack<float, 8> from = load_pack<8>(x + 8 * i);
    Pack<float, 8> to;
    ONEPASS_UNROLL
    for (int k = 0; k < 8; ++k) to[k] = from[7 - k];
    store_pack_streaming(y + 8 * i, to);
  }
}

// Mean and variance of each row, a block a row: block sums one after the other on the same parts.
__global__ void row_moments(const float* x, float* mean, float* variance, int64_t columns) {
  ONEPASS_SHARED(float, parts, [32]);
  const float* row = x + blockIdx.x * columns;
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < columns; i += blockDim.x) sum += row[i];
  const float mu = block_sum(sum, parts) / float(columns);
  sum = 0.0f;
  for (int64_t i = threadIdx.x; i < columns; i += blockDim.x) sum += (row[i] - mu) * (row[i] - mu);
  const float var = block_sum(sum, parts) / float(columns);
  if (threadIdx.x == 0) {
    mean[blockIdx.x] = mu;
    variance[blockIdx.x] = var;
  }
}

// The sums of neighbours among blocks: each block of a cluster adds those of the next in rank.
__global__ void cluster_sums(const float* x, float* y, int ranks) {
  ONEPASS_SHARED(float, parts, [32]);
  ONEPASS_SHARED(float, sum, [1]);
  const int rank = int(blockIdx.x) % ranks;
  const float own = block_sum(x[global_thread()], parts);
  if (threadIdx.x == 0) sum[0] = own;
  cluster_sync();
  const float next = load_of_block(&sum[0], (rank + 1) % ranks);
  if (threadIdx.x == 0) y[blockIdx.x] = own + next;
  cluster_sync();  // before the block and its memory end
}

// Reverses rows of 4·blockDim.x floats, the next of which comes while one is reversed.
__global__ void reverse_rows(const float* x, float* y, int rows) {
  ONEPASS_DYNAMIC_SHARED(float, memory);
  const int columns = 4 * int(blockDim.x), at = 4 * int(threadIdx.x);
  const auto fetch = [&](int row) {
    if (row < rows) copy_async(memory + row % 2 * columns + at, x + row * columns + at);
    commit_copies();  // an empty group too, so that the wait below counts
  };
  fetch(0);
  for (int row = 0; row < rows; ++row) {
    fetch(row + 1);
    wait_for_copies<1>();
    block_sync();
    for (int k = 0; k < 4; ++k)
      y[row * columns + at + k] = memory[row % 2 * columns + columns - 1 - at - k];
    block_sync();  // before the next but one is fetched to this place
  }
}

// The sum of everything in one launch: the last block to finish adds the blocks' sums in order.
// `tickets` is 0 before the first launch and after each.
__global__ void sum(const float* x, int64_t n, float* block_sums, unsigned* tickets, float* total) {
  ONEPASS_SHARED(float, parts, [32]);
  ONEPASS_SHARED(bool, is_last);
  float mine = 0.0f;
  for (int64_t i = global_thread(); i < n; i += grid_threads()) mine += x[i];
  mine = block_sum(mine, parts);
  if (threadIdx.x == 0) {
    block_sums[blockIdx.x] = mine;
    fence();
    is_last = atomic_ticket(tickets, gridDim.x - 1) == gridDim.x - 1;
    fence();
  }
  block_sync();
  if (!is_last) return;  // the whole block, so nobody waits for it
  mine = 0.0f;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) mine += block_sums[i];
  mine = block_sum(mine, parts);
  if (threadIdx.x == 0) *total = mine;
}

// Bit i % 32 of word i / 32 is x[i] > threshold.
__global__ void mask_bits(const float* x, unsigned* words, int64_t n, float threshold) {
  const int64_t rounded = (n + kWarpSize - 1) / kWarpSize * kWarpSize;
  for (int64_t i = global_thread(); i < rounded; i += grid_threads()) {
    const unsigned word = warp_ballot(kFullWarp, i < n && x[i] > threshold);
    if (threadIdx.x % kWarpSize == 0) words[i / kWarpSize] = word;
  }
}

// A 2-D block, padded shared memory.
__global__ void transpose(const float* x, float* y, int rows, int columns) {
  ONEPASS_SHARED(float, tile, [32][33]);
  const int column = int(blockIdx.x) * 32 + int(threadIdx.x), row0 = int(blockIdx.y) * 32;
  for (int j = int(threadIdx.y); j < 32; j += int(blockDim.y))
    if (row0 + j < rows && column < columns)
      tile[j][threadIdx.x] = x[int64_t(row0 + j) * columns + column];
  block_sync();
  const int row = row0 + int(threadIdx.x), column0 = int(blockIdx.x) * 32;
  for (int j = int(threadIdx.y); j < 32; j += int(blockDim.y))
    if (row < rows && column0 + j < columns)
      y[int64_t(column0 + j) * rows + row] = tile[threadIdx.x][j];
}

// One block, n at most the dynamic shared memory.
__global__ void reverse_in_place(float* x, int n) {
  ONEPASS_DYNAMIC_SHARED(float, row);
  for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) row[i] = x[i];
  block_sync();
  for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) x[i] = row[n - 1 - i];
}

// One warp. The halves go separate ways, each with its own mask, and meet again.
__global__ void half_warps(const int64_t* x, int64_t* y) {
  ONEPASS_SHARED(int64_t, values, [32]);
  const int lane = int(threadIdx.x);
  values[lane] = x[lane];
  int64_t result;
  if (lane < 16) {
    warp_sync(0x0000ffffu);
    result = values[15 - lane] + warp_shuffle(0x0000ffffu, x[lane], 3);
  } else {
    warp_sync(0xffff0000u);
    result = values[47 - lane] + warp_shuffle_down(0xffff0000u, x[lane], 1);
  }
  warp_sync(kFullWarp);
  result += values[31 - lane];
  const bool all = warp_all(kFullWarp, result >= 0), any = warp_any(kFullWarp, result == 77);
  y[lane] = all && !any ? result : -1;
}

// Integer atomics: their final values do not depend on the order of arrival.
struct Extremes {
  int64_t first_negative, last_negative;
  uint64_t negatives;
  unsigned signs;
};
__global__ void find_negatives(const float* x, int64_t n, Extremes* found) {
  for (int64_t i = global_thread(); i < n; i += grid_threads()) {
    atomic_or(&found->signs, x[i] < 0.0f ? 1u : 2u);
    if (x[i] >= 0.0f) continue;
    atomic_min(&found->first_negative, i);
    atomic_max(&found->last_negative, i);
    atomic_add(&found->negatives, uint64_t(1));
  }
}

// A large parameter, as the pointer tables of multi-tensor kernels are. A block a list entry.
struct Table {
  float* arrays[500];
  int sizes[500];
};
__global__ void zero_all(const __grid_constant__ Table table) {
  float* array = table.arrays[blockIdx.x];
  for (int i = int(threadIdx.x); i < table.sizes[blockIdx.x]; i += int(blockDim.x)) array[i] = 0.0f;
}

}  // namespace right
