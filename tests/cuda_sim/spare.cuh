// What the simulator can do beyond what csrc/cuda/device.h offers, for the models of right.cuh and
// the mistakes of planted.cuh. A kernel that needs one of these moves it there.
#pragma once
#include "cuda/device.h"

namespace onepass {
namespace cuda {

// Each lane gets `value` of the lane `distance` above; the top `distance` lanes keep their own.
template <class T>
ONEPASS_DEVICE T warp_shuffle_down(unsigned mask, T value, int distance,
                                   [[maybe_unused]] Site site = Site::here()) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  return ONEPASS_CUDA_OR_SIM(__shfl_down_sync(mask, value, distance),
                             cusim::shuffle(mask, value, cusim::lane_above(distance), site));
}

// Bit i of the result is lane i's predicate; 0 outside the mask.
ONEPASS_DEVICE unsigned warp_ballot(unsigned mask, bool predicate,
                                    [[maybe_unused]] Site site = Site::here()) {
  return ONEPASS_CUDA_OR_SIM(__ballot_sync(mask, predicate), cusim::ballot(mask, predicate, site));
}

ONEPASS_DEVICE bool warp_all(unsigned mask, bool predicate,
                             [[maybe_unused]] Site site = Site::here()) {
  return ONEPASS_CUDA_OR_SIM(__all_sync(mask, predicate) != 0,
                             cusim::ballot(mask, predicate, site) == mask);
}

// ---- Copies into shared memory -----------------------------------------------------------------
// They go on while the thread does. Only the thread that started one knows when it has come: it
// waits, and a block_sync tells the others.

// 16 bytes; both addresses are multiples of 16. Before sm_80 the thread copies them itself.
ONEPASS_DEVICE void copy_async(void* shared, const void* global,
                               [[maybe_unused]] Site site = Site::here()) {
#ifndef __CUDACC__
  cusim::copy_async(shared, global, site);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(shared))),
               "l"(__cvta_generic_to_global(global))
               : "memory");
#else
  *static_cast<uint4*>(shared) = *static_cast<const uint4*>(global);
#endif
}
// Those started since the last call are a group.
ONEPASS_DEVICE void commit_copies() {
#ifndef __CUDACC__
  cusim::commit_copies();
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most kLeft of the thread's groups are on their way.
template <int kLeft>
ONEPASS_DEVICE void wait_for_copies() {
#ifndef __CUDACC__
  cusim::wait_for_copies(kLeft);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
#endif
}

// ---- Atomics -----------------------------------------------------------------------------------
// On 4- and 8-byte integers, device-wide and relaxed; each returns the value before.

// CUDA's overloads take int, unsigned, long long, unsigned long long; int64_t here is long.
template <class T>
using CudaInteger =
    std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, int, unsigned>,
                       std::conditional_t<std::is_signed_v<T>, long long, unsigned long long>>;

template <class T>
ONEPASS_DEVICE CudaInteger<T>* cuda_integer(T* address) {
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "atomics are on integers of 4 or 8 bytes");
  return reinterpret_cast<CudaInteger<T>*>(address);
}

// Wraps around on overflow. Unsigned: CUDA has no signed 8-byte form.
template <class T>
ONEPASS_DEVICE T atomic_add(T* address, T value) {
  static_assert(std::is_unsigned_v<T>, "atomic_add is on unsigned integers");
  return ONEPASS_CUDA_OR_SIM(atomicAdd(cuda_integer(address), CudaInteger<T>(value)),
                             cusim::atomic(address, [=](T old) { return old + value; }));
}

template <class T>
ONEPASS_DEVICE T atomic_min(T* address, T value) {
  return ONEPASS_CUDA_OR_SIM(
      atomicMin(cuda_integer(address), CudaInteger<T>(value)),
      cusim::atomic(address, [=](T old) { return value < old ? value : old; }));
}

template <class T>
ONEPASS_DEVICE T atomic_max(T* address, T value) {
  return ONEPASS_CUDA_OR_SIM(
      atomicMax(cuda_integer(address), CudaInteger<T>(value)),
      cusim::atomic(address, [=](T old) { return old < value ? value : old; }));
}

template <class T>
ONEPASS_DEVICE T atomic_or(T* address, T value) {
  static_assert(std::is_unsigned_v<T>, "atomic_or is on unsigned integers");
  return ONEPASS_CUDA_OR_SIM(atomicOr(cuda_integer(address), CudaInteger<T>(value)),
                             cusim::atomic(address, [=](T old) { return old | value; }));
}

}  // namespace cuda
}  // namespace onepass
