// Launches of right.cuh, to be called from Python and to have nvcc compile every kernel.
#include "right.cuh"

extern "C" {

cudaError_t right_axpy(float a, const float* x, float* y, int64_t n, cudaStream_t stream) {
  int blocks = 0;
  const auto kernel = right::elementwise<float, right::Axpy<float>>;
  const cudaError_t error = onepass::cuda::resident_blocks(&blocks, kernel, 128, 0);
  if (error != cudaSuccess) return error;
  return onepass::cuda::launch(kernel, blocks, 128, 0, stream, x, y, n, right::Axpy<float>{a});
}

cudaError_t right_axpy_uint16(uint16_t a, const uint16_t* x, uint16_t* y, int64_t n,
                              cudaStream_t stream) {
  return onepass::cuda::launch(right::elementwise<uint16_t, right::Axpy<uint16_t>>, 3, 64, 0,
                               stream, x, y, n, right::Axpy<uint16_t>{a});
}

// `row` in dynamic shared memory, up to 227 KiB.
cudaError_t right_reverse(float* x, int n, cudaStream_t stream) {
  const size_t bytes = n * sizeof(float);
  const cudaError_t error = onepass::cuda::allow_dynamic_shared(right::reverse_in_place, bytes);
  if (error != cudaSuccess) return error;
  return onepass::cuda::launch(right::reverse_in_place, 1, 128, bytes, stream, x, n);
}

cudaError_t right_cluster_sums(const float* x, float* y, int blocks, cudaStream_t stream) {
  const onepass::cuda::Cluster cluster{2};
  int clusters = 0;
  const cudaError_t error =
      onepass::cuda::resident_clusters(&clusters, cluster, right::cluster_sums, 64, 0);
  if (error != cudaSuccess || clusters == 0) return error;
  return onepass::cuda::launch(cluster, right::cluster_sums, blocks, 64, 0, stream, x, y, 2);
}

const char* right_error_string(cudaError_t error) { return onepass::cuda::error_string(error); }

}  // extern "C"
