// Kernels with one mistake each. ../test_cuda_sim.py says which builds of the simulator report it;
// the report must name every line here that carries MISTAKE and the mistake's name.
#pragma once
#include "spare.cuh"

namespace planted {

using namespace onepass::cuda;

// ---- Barriers that are missing ----

__global__ void missing_block_sync(float* x) {
  ONEPASS_SHARED(float, row, [64]);
  const int i = int(threadIdx.x);
  row[i] = 0.0f;
  block_sync();
  row[i] = x[i];       // MISTAKE missing_block_sync
  x[i] = row[63 - i];  // MISTAKE missing_block_sync
}

ONEPASS_DEVICE float block_sum(float value, float* parts) {
  for (int bit = 16; bit > 0; bit /= 2) value += warp_shuffle_xor(kFullWarp, value, bit);
  // A block_sync is missing: a slow warp may still read the parts of the sum before.
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;  // MISTAKE write_after_read
  block_sync();
  float sum = 0.0f;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp)
    sum += parts[warp];  // MISTAKE write_after_read
  return sum;
}
__global__ void write_after_read(float* x) {
  ONEPASS_SHARED(float, parts, [32]);
  const float sum = block_sum(x[threadIdx.x], parts);
  const float squares = block_sum(x[threadIdx.x] * x[threadIdx.x], parts);
  x[threadIdx.x] = sum + squares;
}

__global__ void missing_warp_sync(float* x) {
  ONEPASS_SHARED(float, row, [32]);
  const int i = int(threadIdx.x);
  row[i] = 0.0f;
  warp_sync(kFullWarp);
  row[i] = x[i];       // MISTAKE missing_warp_sync
  x[i] = row[31 - i];  // MISTAKE missing_warp_sync
}

// The lanes meet, but a shuffle orders no memory.
__global__ void shuffle_for_sync(float* x) {
  ONEPASS_SHARED(float, row, [32]);
  const int i = int(threadIdx.x);
  row[i] = x[i];  // MISTAKE shuffle_for_sync
  const float first = warp_shuffle(kFullWarp, x[i], 0);
  x[i] = first + row[31 - i];  // MISTAKE shuffle_for_sync
}

// Each half of the warp waits for itself alone.
__global__ void half_warp_sync(float* x) {
  ONEPASS_SHARED(float, row, [32]);
  const int i = int(threadIdx.x);
  row[i] = 0.0f;
  warp_sync(kFullWarp);
  row[i] = x[i];  // MISTAKE half_warp_sync
  if (i < 16) {
    warp_sync(0x0000ffffu);
  } else {
    warp_sync(0xffff0000u);
  }
  x[i] = row[31 - i];  // MISTAKE half_warp_sync
}

// ---- Clusters ----

// Nothing says that the other block has written.
__global__ void missing_cluster_sync(float* x) {
  ONEPASS_SHARED(float, row, [32]);
  const int i = int(threadIdx.x), rank = int(blockIdx.x) % 2;
  row[i] = 0.0f;
  cluster_sync();
  row[i] = x[32 * rank + i];  // MISTAKE missing_cluster_sync
  block_sync();
  x[32 * rank + i] = load_of_block(&row[i], 1 - rank);  // MISTAKE missing_cluster_sync
  cluster_sync();
}

// A block may end, and its memory with it, while another reads.
__global__ void block_that_ended(float* x) {
  ONEPASS_SHARED(float, row, [32]);
  const int i = int(threadIdx.x), rank = int(blockIdx.x) % 2;
  row[i] = x[32 * rank + i];
  cluster_sync();
  x[32 * rank + i] = load_of_block(&row[i], 1 - rank);  // MISTAKE block_that_ended
}

// The number of a block in the grid is not its rank.
__global__ void wrong_rank(float* x) {
  ONEPASS_SHARED(float, row, [32]);
  const int i = int(threadIdx.x), next = int(blockIdx.x) + 1;
  row[i] = x[i];
  cluster_sync();
  x[i] = load_of_block(&row[i], next);  // MISTAKE wrong_rank
  cluster_sync();
}

__global__ void divergent_cluster_sync(float* x) {
  if (blockIdx.x == 0) cluster_sync();  // MISTAKE divergent_cluster_sync
  if (threadIdx.x == 0) x[blockIdx.x] = 1.0f;
}

// ---- Copies ----

__global__ void early_read_of_copy(float* x) {
  ONEPASS_SHARED(float, row, [64]);
  const int i = 4 * int(threadIdx.x);
  copy_async(row + i, x + i);
  commit_copies();
  x[i] = row[i];  // a wait is missing
  wait_for_copies<0>();
}

// The group that must have come is the last one, of which the wait leaves one.
__global__ void wait_for_too_few(float* x) {
  ONEPASS_SHARED(float, row, [64]);
  const int i = 4 * int(threadIdx.x);
  copy_async(row + i, x + i);
  commit_copies();
  wait_for_copies<1>();
  x[i] = row[i];
  wait_for_copies<0>();
}

// A thread knows of its own copies alone.
__global__ void copy_of_another(float* x) {
  ONEPASS_SHARED(float, row, [64]);
  const int i = 4 * int(threadIdx.x);
  row[i] = 0.0f;
  block_sync();
  copy_async(row + i, x + i);  // MISTAKE copy_of_another
  commit_copies();
  wait_for_copies<0>();
  x[i] = row[60 - i];  // MISTAKE copy_of_another
}

__global__ void copy_without_wait(float* x) {
  ONEPASS_SHARED(float, row, [64]);
  copy_async(row + 4 * threadIdx.x, x + 4 * threadIdx.x);  // MISTAKE copy_without_wait
  commit_copies();
}

__global__ void misaligned_copy(float* x) {
  ONEPASS_SHARED(float, row, [64]);
  copy_async(row, x + 1);  // MISTAKE misaligned_copy
  commit_copies();
  wait_for_copies<0>();
}

// ---- Blocks that share an address ----

__global__ void block_race(float* x) {
  if (threadIdx.x == 0) x[0] += 1.0f;  // MISTAKE block_race
}

// The barriers of one block order nothing in another.
__global__ void block_race_behind_barriers(float* x) {
  block_sync();
  if (threadIdx.x == 0) x[0] += 1.0f;  // MISTAKE block_race_behind_barriers
  block_sync();
}

__global__ void plain_beside_atomic(unsigned* count) {
  if (blockIdx.x == 0) {
    if (threadIdx.x == 0) *count += 1;  // MISTAKE plain_beside_atomic
  } else {
    atomic_add(count, 1u);
  }
}

// The last block reads what the others wrote, as in right::sum, but one fence of the pair is
// missing or comes too early.
enum class Fences { kNoneBefore, kTooEarly, kNoneAfter };
template <Fences kFences>
__global__ void last_block_sum(float* block_sums, unsigned* tickets, float* total) {
  if (kFences == Fences::kTooEarly) fence();
  block_sums[blockIdx.x] = 1.0f;  // MISTAKE missing_publish_fence late_write missing_observe_fence
  if (kFences == Fences::kNoneAfter) fence();
  const unsigned ticket = atomic_ticket(tickets, gridDim.x - 1);
  if (kFences != Fences::kNoneAfter) fence();
  if (ticket < gridDim.x - 1) return;
  float sum = 0.0f;
  for (unsigned i = 0; i < gridDim.x; ++i)
    sum += block_sums[i];  // MISTAKE missing_publish_fence late_write missing_observe_fence
  *total = sum;
}

// ---- Barriers and warp operations that not all reach ----

__global__ void divergent_block_sync(float* x) {
  if (threadIdx.x < 40) block_sync();  // MISTAKE divergent_block_sync
  x[threadIdx.x] = 1.0f;
}

__global__ void two_block_syncs(float* x) {
  if (threadIdx.x < 32) {
    block_sync();  // MISTAKE two_block_syncs
  } else {
    block_sync();  // MISTAKE two_block_syncs
  }
  x[threadIdx.x] = 1.0f;
}

__global__ void return_before_block_sync(float* x) {
  if (threadIdx.x >= 40) return;
  block_sync();  // MISTAKE return_before_block_sync
  x[threadIdx.x] = 1.0f;
}

__global__ void return_before_shuffle(float* x) {
  if (threadIdx.x >= 20) return;
  x[threadIdx.x] = warp_shuffle_xor(kFullWarp, x[threadIdx.x], 1);  // MISTAKE return_before_shuffle
}

__global__ void partial_warp(float* x) {
  x[threadIdx.x] = warp_shuffle_xor(kFullWarp, x[threadIdx.x], 1);  // MISTAKE partial_warp
}

__global__ void lane_not_in_mask(float* x) {
  x[threadIdx.x] = float(warp_ballot(0xffffu, true));  // MISTAKE lane_not_in_mask
}

__global__ void shuffle_from_outside_mask(float* x) {
  const int i = int(threadIdx.x);
  if (i < 16) x[i] = warp_shuffle(0xffffu, x[i], 20);  // MISTAKE shuffle_from_outside_mask
}

__global__ void two_warp_operations(float* x) {
  if (threadIdx.x < 16) {
    x[threadIdx.x] = warp_shuffle(kFullWarp, 1.0f, 0);  // MISTAKE two_warp_operations
  } else {
    x[threadIdx.x] = warp_shuffle(kFullWarp, 2.0f, 0);  // MISTAKE two_warp_operations
  }
}

// ---- Memory ----

__global__ void unwritten_shared(float* x) {
  ONEPASS_SHARED(float, row, [64]);
  if (threadIdx.x > 0) row[threadIdx.x] = 1.0f;
  block_sync();
  x[threadIdx.x] = row[63 - threadIdx.x];
}

__global__ void global_overrun(float* x, int n) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i <= n) x[i] += 1.0f;  // MISTAKE global_overrun
}

// The pack begins inside and ends outside.
__global__ void pack_overrun(float* x, int n) {
  const Pack<float> pack = load_pack<4>(x + n / 4 * 4);  // MISTAKE pack_overrun
  x[0] = pack[0];
}

__global__ void static_shared_overrun(float* x) {
  ONEPASS_SHARED(float, row, [64]);
  row[threadIdx.x + 1] = x[threadIdx.x];  // MISTAKE static_shared_overrun
}

__global__ void dynamic_shared_overrun(float* x) {
  ONEPASS_DYNAMIC_SHARED(float, row);
  row[threadIdx.x + 1] = x[threadIdx.x];  // MISTAKE dynamic_shared_overrun
}

[[gnu::noinline]] inline void put(float* row, int i, float value) {
  row[i] = value;  // MISTAKE pointer_shared_overrun
}
__global__ void pointer_shared_overrun(float* x) {
  ONEPASS_SHARED(float, row, [64]);
  put(row, int(threadIdx.x) + 1, x[threadIdx.x]);
}

__global__ void misaligned_pack(float* x) {
  const Pack<float> zeros{};
  store_pack(x + 1, zeros);  // MISTAKE misaligned_pack
}

__global__ void misaligned_double(float* x) {
  *reinterpret_cast<double*>(x + 1) = 0.0;  // MISTAKE misaligned_double
}

__global__ void signed_overflow(float* x, int n) {
  const int square = n * n;  // MISTAKE signed_overflow
  x[0] = float(square);
}

__global__ void too_much_static_shared(float* x) {
  ONEPASS_SHARED(float, first, [6 << 10]);
  ONEPASS_SHARED(float, second, [7 << 10]);  // MISTAKE too_much_static_shared
  first[0] = second[0] = x[0];
}

__global__ void too_much_shared_together(float* x) {
  ONEPASS_SHARED(float, row, [64]);  // MISTAKE too_much_shared_together
  row[threadIdx.x] = x[threadIdx.x];
}

__global__ void does_nothing() {}

}  // namespace planted
