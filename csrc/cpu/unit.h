// How a unit of the CPU backend (activations.cpp, updates.cpp, …) hands over what it compiled for
// its instruction-set level: by one exported function, which fills its part of the table.
#pragma once
#include "core/backend.h"
#include "core/hd.h"

#define ONEPASS_JOIN(a, b) a##b
#define ONEPASS_NAME(prefix, level) ONEPASS_JOIN(prefix, level)

// extern "C" void onepass_cpu_updates_v3(onepass::Backend* backend)
#define ONEPASS_CPU_UNIT(family) \
  extern "C" void ONEPASS_NAME(onepass_cpu_##family##_, ONEPASS_ISA)(onepass::Backend * backend)
