#include "bind/target.h"

#include <pybind11/pybind11.h>

#include <string>

#include "cpu/dispatch.h"

namespace onepass::bind {

const Backend* cuda_backend() { return nullptr; }

Target target_of(int cuda_device, const char* op, const char* name) {
  namespace py = pybind11;
  if (cuda_device < 0) return {&cpu_backend(), nullptr};
  const py::object why = py::module_::import("onepass.config").attr("cuda_why_not")();
  throw std::runtime_error(
      std::string(op) + ": '" + name +
      "' lies on a CUDA device, but CUDA is not usable: " + py::cast<std::string>(why));
}

}  // namespace onepass::bind
