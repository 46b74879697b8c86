#include "bind/plan_options.h"

#include <cmath>

#include "bind/scalar.h"

namespace onepass::bind {
namespace {

// A number, or an array of one on a device, which is read there.
double number(const char* op, PyObject* given, StepOptions::OnDevice* on_device, const char* name) {
  if (!PyFloat_Check(given)) {
    View& v = on_device->seen;
    if (view(given, &v) == ViewError::none && v.cuda_device >= 0) {
      if (v.size() != 1 || !v.floating())
        value_error(op, "'" + std::string(on_device->name) +
                            "' is an array on a CUDA device of another shape or dtype, expected "
                            "one floating-point number");
      on_device->array = given;
      return 1;
    }
  }
  return real(op, name, given);
}

}  // namespace

StepOptions read_options(const char* op, const Arguments& given) {
  StepOptions options;
  options.unscale = number(op, given[kUnscale], &options.grad_scale, "unscale");
  if (given[kMaxValue] != Py_None) options.max_value = real(op, "max_value", given[kMaxValue]);
  options.clip_norm = given[kMaxNorm] != Py_None;
  if (options.clip_norm) options.max_norm = number(op, given[kMaxNorm], &options.limit, "max_norm");
  options.check_nonfinite = boolean(op, "check_nonfinite", given[kCheckNonfinite]);
  options.zero_grad = boolean(op, "zero_grad", given[kZeroGrad]);
  options.maximize = boolean(op, "maximize", given[kMaximize]);
  options.zero_skipped = boolean(op, "zero_skipped", given[kZeroSkipped]);
  return options;
}

void order_numbers(const char* op, const StepOptions& options, Target* where) {
  for (const StepOptions::OnDevice* each : {&options.grad_scale, &options.limit}) {
    if (!each->array) continue;
    if (each->seen.cuda_device != where->device)
      value_error(op, "'" + std::string(each->name) + "' lies on CUDA device " +
                          std::to_string(each->seen.cuda_device) + " but the parameters on " +
                          (where->on_device() ? "CUDA device " + std::to_string(where->device)
                                              : std::string("the CPU")) +
                          ", expected a number there, or a Python float");
    void* const stream = stream_of(each->array, where->device);
    if (stream != where->stream) where->others.push_back(stream);
  }
}

void check_unscale(const char* op, double unscale, const std::vector<Tensor>& tensors) {
  const auto refuse = [&](const char* type, const char* range) {
    value_error(op, "'grad_scale' is " + repr(py::float_(1 / unscale).ptr()) + ", expected " +
                        range + " for gradients that are computed in " + type);
  };
  if (!std::isnormal(unscale)) refuse("float64", "1e-307 <= grad_scale <= 1e307");
  if (std::isnormal(float(unscale))) return;
  for (const Tensor& tensor : tensors)
    if (tensor.computing == DType::f32) refuse("float32", "1e-38 <= grad_scale <= 8e37");
}

}  // namespace onepass::bind
