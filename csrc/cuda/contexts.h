// Makes a device a thread's current one and puts back what was, by the driver's contexts: the
// runtime works in the context that is current. cudaSetDevice cannot go back: since CUDA 12 it
// makes a context on the device that it is given, hundreds of megabytes on one that the process may
// not use.
#pragma once
#include <atomic>

#include "cuda/device.h"
#include "cuda/host.h"

#ifdef __CUDACC__
#include <dlfcn.h>
#endif

namespace onepass {
namespace cuda {

// What is needed of the driver. The runtime has loaded it and called cuInit by then; linking it
// would keep the extension from loading where there is none.
struct Driver {
  int (*get_current)(void** context);
  int (*get_device)(int* device);  // of the current context
  int (*device_at)(int* device, int ordinal);
  int (*retain)(void** context, int device);  // the device's own one, made where it has none
  int (*push)(void* context);
  int (*pop)(void** context);
  int (*describe)(int error, const char** text);
};

#ifdef __CUDACC__
// Null where the driver lacks one of them.
inline const Driver* driver() {
  static const Driver* const found = []() -> const Driver* {
    static Driver d;
    void* const library = dlopen("libcuda.so.1", RTLD_NOW);
    bool all = library != nullptr;
    const auto take = [&](auto* function, const char* name) {
      void* const symbol = all ? dlsym(library, name) : nullptr;
      *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(symbol);
      all = all && symbol;
    };
    take(&d.get_current, "cuCtxGetCurrent");
    take(&d.get_device, "cuCtxGetDevice");
    take(&d.device_at, "cuDeviceGet");
    take(&d.retain, "cuDevicePrimaryCtxRetain");
    take(&d.push, "cuCtxPushCurrent_v2");
    take(&d.pop, "cuCtxPopCurrent_v2");
    take(&d.describe, "cuGetErrorString");
    return all ? &d : nullptr;
  }();
  return found;
}
#else
inline const Driver* driver() {
  static const Driver d{cusim::get_current,   cusim::get_device,   cusim::device_at,
                        cusim::retain,        cusim::push_context, cusim::pop_context,
                        cusim::describe_error};
  return &d;
}
#endif

// Records an error of the driver.
inline bool driver_failed(int error) {
  if (error == 0) return false;
  const char* text = nullptr;
  (void)driver()->describe(error, &text);
  record_error(text ? text : "an error that the driver does not name");
  return true;
}

// See Backend.
inline int enter_device(int device) {
  static std::atomic<void*> own[kMostDevices];  // contexts, kept for as long as the process lives
  const Driver* const d = driver();
  if (!d) {
    record_error("the driver's library, libcuda.so.1, lacks a function; install a newer driver");
    return -1;
  }
  if (device < 0 || device >= kMostDevices) {
    record_error("invalid device ordinal");
    return -1;
  }
  void* current = nullptr;
  void* wanted = own[device].load(std::memory_order_acquire);
  if (driver_failed(d->get_current(&current))) return -1;
  if (current && current == wanted) return 0;
  int now = -1, place = 0;
  if (driver_failed(d->device_at(&place, device))) return -1;
  // A context that the caller made beside the device's own one stays.
  if (current && driver_failed(d->get_device(&now))) return -1;
  if (current && now == place) return 0;
  if (!wanted) {
    if (driver_failed(d->retain(&wanted, place))) return -1;
    own[device].store(wanted, std::memory_order_release);
  }
  return driver_failed(d->push(wanted)) ? -1 : 1;
}

inline void leave_device() {
  void* left = nullptr;
  (void)driver_failed(driver()->pop(&left));
}

}  // namespace cuda
}  // namespace onepass
