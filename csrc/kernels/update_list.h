// THE registration of optimizers: one exists when its rule is in this list.
#pragma once
#include "core/backend.h"
#include "core/rule.h"
#include "kernels/adam.h"
#include "kernels/nadam.h"
#include "kernels/rmsprop.h"
#include "kernels/sgd.h"

ONEPASS_BEGIN

using Updates = Rules<Sgd, Adam, AdamW, Rmsprop, NAdam>;

static_assert(variant_count(Updates{}) < size_t(kMaxKernels), "raise kMaxKernels (core/backend.h)");
static_assert(most_operands(Updates{}) <= size_t(kMaxOperands),
              "raise kMaxOperands (core/backend.h)");

ONEPASS_END
