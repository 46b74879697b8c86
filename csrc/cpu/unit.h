// A unit of the CPU backend (dropout.cpp, losses.cpp, the unit of each formula) hands over what it
// compiled for its instruction-set level by one exported function, which fills its part of the
// table.
#pragma once
#include "core/backend.h"
#include "core/hd.h"

// extern "C" void onepass_cpu_losses_v3(onepass::Backend* backend)
#define ONEPASS_JOIN4(a, b, c, d) a##b##c##d
#define ONEPASS_UNIT_NAME(unit, level) ONEPASS_JOIN4(onepass_cpu_, unit, _, level)
#define ONEPASS_CPU_UNIT(unit) \
  extern "C" void ONEPASS_UNIT_NAME(unit, ONEPASS_ISA)(onepass::Backend * backend)
