// The options of a step that hold for all its parameters.
#pragma once
#include <vector>

#include "bind/fast.h"
#include "bind/target.h"
#include "core/backend.h"

namespace onepass::bind {

// The arguments of Plan.step, in order.
enum StepArgument : int {
  kGrads,
  kHyper,
  kUnscale,
  kMaxValue,
  kMaxNorm,
  kCheckNonfinite,
  kZeroGrad,
  kMaximize,
  kZeroSkipped,
  kStepArguments
};
constexpr const char* kStepSignature =
    "step(grads, hyper, unscale, max_value, max_norm, check_nonfinite, zero_grad, maximize, "
    "zero_skipped)";

struct StepOptions {
  double unscale = 1, max_value = GradientRider::kNoLimit, max_norm = 0;
  bool clip_norm = false, check_nonfinite = false, zero_grad = false, maximize = false;
  bool zero_skipped = true;
  // Arrays of one number on a CUDA device, which take the place of 1/unscale and of max_norm.
  struct OnDevice {
    const char* name;
    PyObject* array = nullptr;  // null: there is none
    View seen{};
    DeviceNumber number() const { return {seen.data, seen.dtype()}; }
  };
  OnDevice grad_scale{"grad_scale"}, limit{"max_norm"};
  bool measures() const { return clip_norm || check_nonfinite; }
};

// Of the arguments of Plan.step.
StepOptions read_options(const char* op, const Arguments& given);

// Refuses numbers on a device where the step does not run there. Its work comes after theirs.
void order_numbers(const char* op, const StepOptions& options, Target* where);

// Refuses a factor that has no place in the type that gradients are computed in.
void check_unscale(const char* op, double unscale, const std::vector<Tensor>& tensors);

}  // namespace onepass::bind
