// The extension onepass._cuda: the CUDA backend with its own static runtime. It loads on a machine
// without driver or device; CUDA starts at the first call of one of its functions.
#include <cuda_runtime_api.h>
#include <pybind11/pybind11.h>

#include <string>

#include "core/backend.h"

extern "C" const onepass::Backend* onepass_cuda_backend();

namespace {

namespace py = pybind11;

constexpr int kLeastCapability = 75;

// Clears errors, so that later calls do not see them.
cudaError_t count_devices(int* count) {
  *count = 0;
  const cudaError_t error = cudaGetDeviceCount(count);
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
}

int capability(int device) {
  int major = 0, minor = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return 10 * major + minor;
}

int device_count() {
  int count = 0;
  return count_devices(&count) == cudaSuccess ? count : 0;
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// A sentence with the one thing to do; empty where CUDA can be used.
std::string why_not() {
  int count = 0;
  const cudaError_t error = count_devices(&count);
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0;
    (void)cudaDriverGetVersion(&driver);
    const std::string needed = version_text(CUDART_VERSION);
    return driver == 0 ? "there is no NVIDIA driver on this machine; install one for CUDA " +
                             needed + " or newer."
                       : "the NVIDIA driver is of CUDA " + version_text(driver) +
                             ", older than CUDA " + needed + " needs; install a newer driver.";
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    return "no CUDA device is visible; look at nvidia-smi and at CUDA_VISIBLE_DEVICES.";
  if (error != cudaSuccess)
    return std::string("CUDA does not start (") + cudaGetErrorString(error) +
           "); see whether nvidia-smi works.";
  int best = 0;
  for (int d = 0; d < count; ++d) best = capability(d) > best ? capability(d) : best;
  if (best < kLeastCapability)
    return "the CUDA devices here have compute capability " + std::to_string(best / 10) + "." +
           std::to_string(best % 10) + "; use one of 7.5 (Turing, 2018) or newer.";
  return "";
}

py::capsule backend() {
  return py::capsule(static_cast<const void*>(onepass_cuda_backend()), "onepass.Backend");
}

}  // namespace

PYBIND11_MODULE(_cuda, m, pybind11::mod_gil_not_used()) {
  m.doc() = "The CUDA backend of onepass.";
  m.def("available", [] { return why_not().empty(); }, "Whether CUDA arrays can be used.");
  m.def("why_not", &why_not, "Why CUDA cannot be used, and what to do; empty where it can.");
  m.def("device_count", &device_count, "Number of visible CUDA devices; 0 without a driver.");
  m.def("backend", &backend, "The table of kernels, a capsule named onepass.Backend.");
}
