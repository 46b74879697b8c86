// The CUDA backend, loaded at the first array on a CUDA device: importing onepass never touches
// CUDA.
#pragma once
#include "core/backend.h"

namespace onepass::bind {

// Null if CUDA cannot be used in this process.
const Backend* cuda_backend();
// The same, but RuntimeError with the reason; `op` and `name` are those of the call and its array.
const Backend& require_cuda(const char* op, const char* name);
// For tests: replaces the CUDA backend; null restores it.
void replace_cuda_backend(const Backend* backend);

}  // namespace onepass::bind
