// The options of a step that hold for all its parameters.
#pragma once
#include <vector>

#include "bind/fast.h"
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
  bool measures() const { return clip_norm || check_nonfinite; }
};

// Of the arguments of Plan.step.
StepOptions read_options(const char* op, const Arguments& given);

// Refuses a factor that has no place in the type that gradients are computed in.
void check_unscale(const char* op, double unscale, const std::vector<Tensor>& tensors);

}  // namespace onepass::bind
