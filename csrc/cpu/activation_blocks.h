// Activations as functions of a block, through which a norm or bias runs all but the cheapest. The
// table is in activations.cpp, so that a new activation compiles nothing of a norm.
#pragma once
#include "cpu/unit.h"

ONEPASS_BEGIN

template <class T>
struct ActivationBlocks {
  void (*forward[kMaxKernels])(int64_t n, const double* options, const T* x, T* y) = {};
  void (*backward[kMaxKernels])(int64_t n, const double* options, const T* dy, const T* x,
                                T* dx) = {};
};
struct ActivationTable {
  ActivationBlocks<float> single;
  ActivationBlocks<double> twice;
};

#define ONEPASS_ACTIVATION_TABLE ONEPASS_NAME(onepass_cpu_activation_table_, ONEPASS_ISA)
extern "C" const ActivationTable* ONEPASS_ACTIVATION_TABLE();

ONEPASS_END
