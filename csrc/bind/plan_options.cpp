#include "bind/plan_options.h"

#include <cmath>

#include "bind/scalar.h"

namespace onepass::bind {

StepOptions read_options(const char* op, const Arguments& given) {
  StepOptions options;
  options.unscale = real(op, "unscale", given[kUnscale]);
  if (given[kMaxValue] != Py_None) options.max_value = real(op, "max_value", given[kMaxValue]);
  options.clip_norm = given[kMaxNorm] != Py_None;
  if (options.clip_norm) options.max_norm = real(op, "max_norm", given[kMaxNorm]);
  options.check_nonfinite = boolean(op, "check_nonfinite", given[kCheckNonfinite]);
  options.zero_grad = boolean(op, "zero_grad", given[kZeroGrad]);
  options.maximize = boolean(op, "maximize", given[kMaximize]);
  options.zero_skipped = boolean(op, "zero_skipped", given[kZeroSkipped]);
  return options;
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
