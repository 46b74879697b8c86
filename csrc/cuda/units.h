// How a unit of the CUDA backend (dropout.cu, losses.cu, the unit of each formula) hands over its
// functions: one function, such as add_losses() or add_activation_relu(), fills the unit's part of
// the table.
#pragma once
#include "core/backend.h"

#define ONEPASS_JOIN2(a, b) a##b
#define ONEPASS_UNIT_NAME(unit) ONEPASS_JOIN2(add_, unit)
#define ONEPASS_CUDA_UNIT(unit)           \
  namespace onepass {                     \
  namespace cuda {                        \
  void ONEPASS_UNIT_NAME(unit)(Backend*); \
  }                                       \
  }                                       \
  void onepass::cuda::ONEPASS_UNIT_NAME(unit)(Backend * backend)
