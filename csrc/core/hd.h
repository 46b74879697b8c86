// Macros that let one source serve every backend.
//
// ONEPASS_HD marks a function as callable on host and device and forces it inline, so that a file
// compiled once per instruction set emits no symbol the linker could share between the copies.
// ONEPASS_BEGIN / ONEPASS_END open a namespace named after the instruction set (v2, v3, v4, base,
// cuda, host): the same functor compiled twice is two types, for the same reason.
#pragma once
#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define ONEPASS_HD __host__ __device__ __forceinline__
#else
#define ONEPASS_HD inline __attribute__((always_inline))
#endif

#ifndef ONEPASS_ISA
#define ONEPASS_ISA host
#endif

#define ONEPASS_BEGIN \
  namespace onepass { \
  namespace ONEPASS_ISA {
#define ONEPASS_END \
  }                 \
  }
