// Sums in the order of core/squares.h: a warp adds a tile, a block adds the sums of tiles.
#pragma once
#include "core/squares.h"
#include "cuda/table.cuh"

ONEPASS_BEGIN
namespace {

static_assert(kTile == kBlockElements && kColumns == kThreads, "a tile is a block");
constexpr int kSlots = kColumns / kWarpSize;  // columns of a lane

// Folds the columns of all lanes by halves; every lane gets the sum. Units of W elements: a lane
// has W neighbouring columns of each kWarpSize * W.
template <int W>
ONEPASS_DEVICE double fold_columns(double* slots) {
  ONEPASS_UNROLL
  for (int half = kSlots / 2; half >= W; half /= 2) ONEPASS_UNROLL
  for (int c = 0; c < half; ++c) slots[c] += slots[c + half];
  ONEPASS_UNROLL
  for (int bit = kWarpSize / 2; bit > 0; bit /= 2) ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) slots[w] += warp_shuffle_xor(kFullWarp, slots[w], bit);
  ONEPASS_UNROLL
  for (int half = W / 2; half > 0; half /= 2) ONEPASS_UNROLL
  for (int c = 0; c < half; ++c) slots[c] += slots[c + half];
  return slots[0];
}

// The sum of row[first, end), a thread for each column; every thread gets it. `columns`: shared,
// kColumns of them.
ONEPASS_DEVICE double sum_of_columns(const double* row, int64_t first, int64_t end,
                                     double* columns) {
  constexpr int kTogether = 16;  // one block has to hide the latency of all its loads
  const int thread = int(threadIdx.x);
  double sum = 0;
  int64_t i = first + thread;
  for (; i + (kTogether - 1) * kColumns < end; i += kTogether * kColumns) {
    double next[kTogether];
    ONEPASS_UNROLL
    for (int j = 0; j < kTogether; ++j) next[j] = row[i + j * kColumns];
    ONEPASS_UNROLL
    for (int j = 0; j < kTogether; ++j) sum += next[j];
  }
  for (; i < end; i += kColumns) sum += row[i];
  block_sync();  // another thread may still read the previous sum
  columns[thread] = sum;
  block_sync();
  for (int half = kColumns / 2; half > 0; half /= 2) {
    if (thread < half) columns[thread] += columns[thread + half];
    block_sync();
  }
  return columns[0];
}

}  // namespace
ONEPASS_END
