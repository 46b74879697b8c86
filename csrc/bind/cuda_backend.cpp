#include "bind/cuda_backend.h"

#include <pybind11/pybind11.h>

#include <atomic>
#include <stdexcept>
#include <string>

namespace onepass::bind {

namespace py = pybind11;

namespace {

std::atomic<const Backend*> test_backend{nullptr}, loaded{nullptr};

const Backend* load_backend() {
  const py::object config = py::module_::import("onepass.config");
  if (!py::cast<bool>(config.attr("cuda_available")())) return nullptr;
  const py::object capsule = py::module_::import("onepass._cuda").attr("backend")();
  const void* table = PyCapsule_GetPointer(capsule.ptr(), "onepass.Backend");
  if (!table) throw py::error_already_set();
  return static_cast<const Backend*>(table);
}

}  // namespace

const Backend* cuda_backend() {
  if (const Backend* backend = test_backend.load(std::memory_order_acquire)) return backend;
  if (const Backend* backend = loaded.load(std::memory_order_acquire)) return backend;
  const Backend* const found = load_backend();  // the same for every thread
  loaded.store(found, std::memory_order_release);
  return found;
}

const Backend& require_cuda(const char* op, const char* name) {
  if (const Backend* backend = cuda_backend()) return *backend;
  const py::object why = py::module_::import("onepass.config").attr("cuda_why_not")();
  throw std::runtime_error(
      std::string(op) + ": '" + name +
      "' lies on a CUDA device, but CUDA is not usable: " + py::cast<std::string>(why));
}

void replace_cuda_backend(const Backend* backend) {
  test_backend.store(backend, std::memory_order_release);
}

}  // namespace onepass::bind
