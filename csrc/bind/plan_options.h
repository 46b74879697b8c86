// The options of a step that hold for all its parameters.
#pragma once
#include <vector>

#include "bind/fast.h"
#include "core/backend.h"

namespace onepass::bind {

struct StepOptions {
  double unscale = 1, max_value = GradientRider::kNoLimit, max_norm = 0;
  bool clip_norm = false, check_nonfinite = false, zero_grad = false, maximize = false;
  bool zero_skipped = true;
  bool measures() const { return clip_norm || check_nonfinite; }
};

// The third argument of Plan.step and those after it.
StepOptions read_options(const char* op, const Arguments& given);

// Refuses a factor that has no place in the type that gradients are computed in.
void check_unscale(const char* op, double unscale, const std::vector<Tensor>& tensors);

}  // namespace onepass::bind
