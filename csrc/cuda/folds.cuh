// Folds values over the threads of a warp or block with the operations of core/folds.h, in an order
// that depends only on the number of threads; and is_last_block(), which tells one block that all
// others are done.
#pragma once
#include "core/folds.h"
#include "cuda/memory.cuh"

ONEPASS_BEGIN
namespace {

template <class T, class Op>
ONEPASS_DEVICE T warp_fold(T value, Op op) {
  ONEPASS_UNROLL
  for (int bit = 1; bit < kWarpSize; bit *= 2)
    value = op(value, warp_shuffle_xor(kFullWarp, value, bit));
  return value;
}
// Folds the values of a block of kBlockWarps warps; every thread gets the result. `parts`: a value
// for each warp.
template <int kBlockWarps = kWarps, class T, class Op>
ONEPASS_DEVICE T block_fold(T value, Op op, T* parts) {
  value = warp_fold(value, op);
  block_sync();  // another thread may still read the previous fold's parts
  if (lane_of(threadIdx.x) == 0) parts[warp_of(threadIdx.x)] = value;
  block_sync();
  value = parts[0];
  ONEPASS_UNROLL
  for (int w = 1; w < kBlockWarps; ++w) value = op(value, parts[w]);
  return value;
}

// True in the last block of the launch that calls it. That block sees everything the others wrote
// before their call. `ticket` is zero before and after the launch.
ONEPASS_DEVICE bool is_last_block(uint32_t* ticket) {
  ONEPASS_SHARED(bool, is_last);
  block_sync();
  if (threadIdx.x == 0) {
    fence();
    is_last = atomic_ticket(ticket, gridDim.x - 1) == gridDim.x - 1;
    fence();
  }
  block_sync();
  return is_last;
}

}  // namespace
ONEPASS_END
