// See stand_in.h.
#include "stand_in.h"

#include <algorithm>

namespace stand_in {

Runtime runtime;

namespace {

cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
int context;  // its address is that of every device
uint32_t word;

// Notes a call; its answer.
cudaError_t called(const char* name) {
  runtime.calls.push_back(name);
  if (runtime.fails != name) return cudaSuccess;
  runtime.fails.clear();
  return runtime.last = runtime.error;
}
template <class T, class V>
cudaError_t give(const char* name, T* to, V value) {
  const cudaError_t error = called(name);
  if (error == cudaSuccess) *to = value;
  return error;
}

}  // namespace
}  // namespace stand_in

using stand_in::called;
using stand_in::give;
using stand_in::runtime;

extern "C" {

cudaError_t cudaGetLastError() {
  const cudaError_t error = runtime.last;
  runtime.last = cudaSuccess;
  return error;
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorUnknown ? "unknown error" : "another error";
}
cudaError_t cudaGetDevice(int* device) { return give("cudaGetDevice", device, runtime.device); }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int device) {
  if (device != runtime.device) return cudaErrorInvalidDevice;
  const int answer = which == cudaDevAttrMultiProcessorCount            ? runtime.processors
                     : which == cudaDevAttrMaxSharedMemoryPerBlockOptin ? runtime.most_shared
                     : which == cudaDevAttrClusterLaunch                ? runtime.clusters
                                                                        : -1;
  return give("cudaDeviceGetAttribute", value, answer);
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int,
                                                                   size_t, unsigned) {
  return give("cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", blocks,
              runtime.blocks_of_a_processor);
}
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void*,
                                           const cudaLaunchConfig_t* config) {
  runtime.cluster = config->attrs[0].val.clusterDim.x;
  return give("cudaOccupancyMaxActiveClusters", clusters, runtime.resident_clusters);
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* about, const void*) {
  cudaFuncAttributes answer{};
  answer.ptxVersion = runtime.ptx_version;
  answer.sharedSizeBytes = size_t(runtime.static_shared);
  return give("cudaFuncGetAttributes", about, answer);
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute which, int value) {
  if (which != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaErrorInvalidValue;
  return give("cudaFuncSetAttribute", &runtime.allowed_shared, value);
}
cudaError_t cudaLaunchKernel(const void*, dim3 grid, dim3 block, void**, size_t shared,
                             cudaStream_t) {
  runtime.grid = grid.x;
  runtime.block = block.x;
  runtime.shared = shared;
  runtime.cluster = 1;
  return called("cudaLaunchKernel");
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void*, void**) {
  runtime.grid = config->gridDim.x;
  runtime.block = config->blockDim.x;
  runtime.shared = config->dynamicSmemBytes;
  runtime.cluster = 0;
  for (unsigned i = 0; i < config->numAttrs; ++i)
    if (config->attrs[i].id == cudaLaunchAttributeClusterDimension)
      runtime.cluster = config->attrs[i].val.clusterDim.x;
  return called("cudaLaunchKernelExC");
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  return give("cudaStreamIsCapturing", status,
              runtime.captures ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone);
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* with) {
  std::swap(*with, stand_in::mode);
  return called("cudaThreadExchangeStreamCaptureMode");
}
// A capture forbids it, but in a thread that has relaxed that.
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  if (bytes > sizeof(stand_in::word)) return cudaErrorMemoryAllocation;
  if (runtime.captures && stand_in::mode != cudaStreamCaptureModeRelaxed)
    return runtime.last = cudaErrorStreamCaptureUnsupported;
  return give("cudaHostAlloc", memory, static_cast<void*>(&stand_in::word));
}

// The driver, which csrc/cuda/contexts.h looks up.
int cuCtxGetCurrent(void** current) { return *current = &stand_in::context, 0; }
int cuCtxGetDevice(int* device) { return *device = runtime.device, 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, 0; }
int cuDevicePrimaryCtxRetain(void** kept, int) { return *kept = &stand_in::context, 0; }
int cuCtxPushCurrent_v2(void*) { return 0; }
int cuCtxPopCurrent_v2(void** left) { return *left = &stand_in::context, 0; }
int cuGetErrorString(int, const char** text) { return *text = "an error of the driver", 0; }

// What nvcc calls as the program starts.
void** __cudaRegisterFatBinary(void*) { return nullptr; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, void*, void*, void*,
                            void*, int*) {}
cudaError_t __cudaGetKernel(void**, const void*) { return cudaSuccess; }
cudaError_t __cudaLaunchKernel(void*, dim3, dim3, void**, size_t, cudaStream_t) {
  return cudaErrorNotSupported;  // <<<>>>, which no code of ours has
}
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) {
  return cudaErrorNotSupported;
}
char __cudaInitModule(void**) { return 0; }

}  // extern "C"
