// Launches kernels and keeps their errors for Backend::last_error. The default is kThreads threads
// per block and no dynamic shared memory. Nothing here waits for the device, allocates on it, or
// clears an error of another library.
#pragma once
#include "core/dtype.h"
#include "core/hd.h"
#include "cuda/device.h"
#include "cuda/host.h"
#include "cuda/memory.cuh"

ONEPASS_BEGIN
namespace {

template <int kBlockThreads = kThreads, class... P>
void start_with(int64_t shared_bytes, void (*kernel)(P...), int64_t blocks, cudaStream_t stream,
                const typename SameType<P>::type&... arguments) {
#if defined(ONEPASS_FLUSHED) && !defined(__CUDACC__)
  const FlushDenormals flush;
#endif
  const cudaError_t error = launch(kernel, dim3(unsigned(blocks)), dim3(kBlockThreads),
                                   size_t(shared_bytes), stream, arguments...);
  if (error != cudaSuccess) record_error(error_string(error));
}
template <int kBlockThreads = kThreads, class... P>
void start(void (*kernel)(P...), int64_t blocks, cudaStream_t stream,
           const typename SameType<P>::type&... arguments) {
  start_with<kBlockThreads>(0, kernel, blocks, stream, arguments...);
}

// What most_shared_bytes answers, cached per thread and device.
inline int64_t shared_limit() {
  int bytes = 0;
#ifdef __CUDACC__
  static thread_local int known[64];
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess || device >= 64) return 0;
  if (known[device] == 0 && most_shared_bytes(&known[device]) != cudaSuccess) {
    (void)cudaGetLastError();
    known[device] = 0;
  }
  bytes = known[device];
#else
  (void)most_shared_bytes(&bytes);
#endif
  return bytes;
}
// Lets a kernel have so many bytes of dynamic shared memory; false: it may not. Cached likewise.
template <class... P>
bool allows_shared(void (*kernel)(P...), int64_t bytes) {
#ifdef __CUDACC__
  struct Known {
    const void* kernel;
    int device;
    int64_t bytes;
  };
  static thread_local Known known[128];
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return false;
  const auto* key = reinterpret_cast<const void*>(kernel);
  Known& slot = known[(reinterpret_cast<uintptr_t>(key) >> 4) % 128];
  if (slot.kernel == key && slot.device == device && slot.bytes >= bytes) return true;
  if (allow_dynamic_shared(kernel, size_t(bytes)) != cudaSuccess) {
    (void)cudaGetLastError();
    return false;
  }
  slot = {key, device, bytes};
  return true;
#else
  return allow_dynamic_shared(kernel, size_t(bytes)) == cudaSuccess;
#endif
}

// resident_blocks, cached per thread, kernel and device: the runtime takes microseconds, and may
// refuse while a graph is captured. In the simulator there is no cache, so that tests can change
// the number.
template <class... P>
int resident(void (*kernel)(P...)) {
  int blocks = 0;
#ifdef __CUDACC__
  struct Known {
    const void* kernel;
    int device, blocks;
  };
  static thread_local Known known[128];
  int device = 0;
  if (cudaGetDevice(&device) == cudaSuccess) {
    const auto* key = reinterpret_cast<const void*>(kernel);
    Known& slot = known[(reinterpret_cast<uintptr_t>(key) >> 4) % 128];
    if (slot.kernel == key && slot.device == device) return slot.blocks;
    const cudaError_t error = resident_blocks(&blocks, kernel, kThreads, 0);
    if (error == cudaSuccess) {
      slot = {key, device, blocks};
    } else {
      (void)cudaGetLastError();
      record_error(error_string(error));
    }
  }
#else
  (void)resident_blocks(&blocks, kernel, kThreads, 0);
#endif
  return blocks;
}

// Blocks for `tasks` independent pieces of work: all that are resident at once, or fewer.
template <class... P>
int64_t persistent_blocks(void (*kernel)(P...), int64_t tasks) {
  return larger(1, smaller(tasks, resident(kernel)));
}

}  // namespace
ONEPASS_END
