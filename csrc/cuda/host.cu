// host.h. In the simulator there are two devices, which share all memory.
#include "cuda/host.h"

#include <mutex>

#include "cuda/device.h"

namespace onepass {
namespace cuda {
namespace {

constexpr int kMostDevices = 64;

const char*& first_error() {
  static thread_local const char* text = nullptr;
  return text;
}

#ifdef __CUDACC__

// Records an error and clears it in the runtime, so that later calls do not see it.
bool failed(cudaError_t error) {
  if (error == cudaSuccess) return false;
  (void)cudaGetLastError();
  record_error(cudaGetErrorString(error));
  return true;
}

bool current_device(int* device) { return !failed(cudaGetDevice(device)); }
bool set_device(int device) { return !failed(cudaSetDevice(device)); }

// Allocates a word of page-locked memory, mapped for every device. If this thread captures a graph,
// the capture forbids allocations, so the capture mode changes for this one.
uint32_t* new_word() {
  void* word = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  (void)cudaThreadExchangeStreamCaptureMode(&mode);
  const bool none =
      failed(cudaHostAlloc(&word, sizeof(uint32_t), cudaHostAllocMapped | cudaHostAllocPortable));
  (void)cudaThreadExchangeStreamCaptureMode(&mode);
  return none ? nullptr : static_cast<uint32_t*>(word);
}

#else

thread_local int simulated_device = 0;

bool current_device(int* device) {
  *device = simulated_device;
  return true;
}
bool set_device(int device) {
  if (device < 0 || device > 1) {
    record_error("invalid device ordinal");
    return false;
  }
  simulated_device = device;
  return true;
}
uint32_t* new_word() { return new uint32_t; }

#endif

}  // namespace

bool captures(void* stream) {
#ifdef __CUDACC__
  auto status = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status) != cudaSuccess) {
    (void)cudaGetLastError();  // the default stream, while another one captures
    return false;
  }
  return status != cudaStreamCaptureStatusNone;
#else
  (void)stream;
  return cusim::is_recording();
#endif
}

void record_error(const char* text) {
  if (!first_error()) first_error() = text;
}

const char* last_error() {
  const char* text = first_error();
  first_error() = nullptr;
  return text;
}

int use_device(int device) {
  int before = 0;
  if (!current_device(&before)) return -1;
  if (device >= 0 && device != before && !set_device(device)) return -1;
  return before;
}

uint32_t* host_word(int device) {
  static std::mutex making;
  static uint32_t* words[kMostDevices];
  if (device < 0 || device >= kMostDevices) {
    record_error("invalid device ordinal");
    return nullptr;
  }
  const std::lock_guard<std::mutex> lock(making);
  if (words[device]) return words[device];
  const int before = use_device(device);
  if (before < 0) return nullptr;
  uint32_t* word = new_word();
  if (word) *word = 0;
  words[device] = word;
  (void)use_device(before);
  return word;
}

}  // namespace cuda
}  // namespace onepass
