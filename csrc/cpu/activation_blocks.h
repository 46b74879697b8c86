// Activations as functions over a block. A norm or bias calls them through a table (except ReLU,
// see composed.h). The unit of each activation adds its own entry, so a new activation does not
// recompile any norm.
#pragma once
#include "core/backend.h"
#include "core/hd.h"

ONEPASS_BEGIN

template <class T>
struct ActivationBlocks {
  using Forward = void (*)(int64_t n, const double* options, const T* x, T* y);
  using Backward = void (*)(int64_t n, const double* options, const T* dy, const T* x, T* dx);
  Forward* forward;
  Backward* backward;
};
struct ActivationTable {
  ActivationBlocks<float> single;
  ActivationBlocks<double> twice;
};

// The table of this level. It is complete when the level's Backend is (dispatch.cpp).
ActivationTable* activation_table();

ONEPASS_END
