// A CUDA runtime and driver that answer as a test says, for programs that nvcc has compiled: what
// lies behind __CUDACC__ on the host's side runs without a GPU. Kernels are launched and do
// nothing.
#pragma once
#include <cuda_runtime_api.h>

#include <string>
#include <vector>

namespace stand_in {

struct Runtime {
  std::vector<std::string> calls;  // of functions, in order
  std::string fails;               // the function whose next call fails
  cudaError_t error = cudaErrorUnknown;
  cudaError_t last = cudaSuccess;  // what cudaGetLastError would say

  int device = 0, processors = 132, most_shared = 232448, clusters = 1;
  int blocks_of_a_processor = 2, resident_clusters = 16;
  int static_shared = 1024, ptx_version = 90;
  bool captures = false;

  int allowed_shared = -1;  // that a kernel has been given
  unsigned grid = 0, block = 0, cluster = 0;
  size_t shared = 0;  // of the last launch
};

extern Runtime runtime;

}  // namespace stand_in
