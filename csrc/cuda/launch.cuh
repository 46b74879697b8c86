// Starting kernels: every launch has kThreads threads a block and no dynamic shared memory, and what
// goes wrong is kept for Backend::last_error. Nothing here waits for the device, allocates on it, or
// clears an error that another library left behind.
#pragma once
#include "core/hd.h"
#include "cuda/device.h"
#include "cuda/memory.cuh"

ONEPASS_BEGIN
namespace {

inline const char*& first_error() {
  static thread_local const char* text = nullptr;
  return text;
}
inline void record_error(const char* text) {
  if (!first_error()) first_error() = text;
}
inline const char* last_error() {
  const char* text = first_error();
  first_error() = nullptr;
  return text;
}

template <class... P>
void start(void (*kernel)(P...), int64_t blocks, cudaStream_t stream,
           const typename SameType<P>::type&... arguments) {
  const cudaError_t error = launch(kernel, dim3(unsigned(blocks)), dim3(kThreads), 0, stream,
                                   arguments...);
  if (error != cudaSuccess) record_error(error_string(error));
}

// Blocks for `tasks` independent pieces of work: all that are resident at once, or fewer.
template <class... P>
int64_t persistent_blocks(void (*kernel)(P...), int64_t tasks) {
  int resident = 0;
  const cudaError_t error = resident_blocks(&resident, kernel, kThreads, 0);
  if (error != cudaSuccess) record_error(error_string(error));
  return larger(1, smaller(tasks, resident));
}

}  // namespace
ONEPASS_END
