// host.h. In the simulator there are two devices, which share all memory.
#include "cuda/host.h"

#include <mutex>

#include "cuda/contexts.h"
#include "cuda/device.h"

namespace onepass {
namespace cuda {
namespace {

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

uint32_t* new_word() {
  cusim::touch_context();
  return new uint32_t;
}

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
  cusim::touch_context();
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

int current_device() {
#ifdef __CUDACC__
  int device = 0;
  return failed(cudaGetDevice(&device)) ? -1 : device;
#else
  return cusim::current_device();
#endif
}

KnownAnswer& known_answer_at(const void* kernel, int64_t about) {
  constexpr size_t kSlots = 512;
  static thread_local KnownAnswer known[kSlots];
  return known[((reinterpret_cast<uintptr_t>(kernel) >> 4) + uint64_t(about)) % kSlots];
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
  const int entered = enter_device(device);
  if (entered < 0) return nullptr;
  uint32_t* word = new_word();
  if (word) *word = 0;
  words[device] = word;
  if (entered) leave_device();
  return word;
}

}  // namespace cuda
}  // namespace onepass
