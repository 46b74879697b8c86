// The one place where a call meets the backend that will run it.
#pragma once
#include "core/backend.h"

namespace onepass::bind {

struct Target {
  const Backend* backend;
  void* stream;
};

// The CUDA backend, or null where it cannot be used in this process.
const Backend* cuda_backend();

// cuda_device -1 is the CPU. Raises RuntimeError with the reason where CUDA cannot be used; `op`
// and `name` say who asked.
Target target_of(int cuda_device, const char* op, const char* name);

}  // namespace onepass::bind
