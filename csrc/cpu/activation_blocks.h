// Activations as functions of a block, through which a norm or bias runs all but the cheapest. The
// unit of each formula adds its own, so that a new activation compiles nothing of a norm.
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
