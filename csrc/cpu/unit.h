// How a unit of the CPU backend (dropout.cpp, losses.cpp, the unit of each formula) hands over its
// functions: it exports one function per level, which fills the unit's part of that level's table.
#pragma once
#include "core/backend.h"
#include "core/hd.h"

// extern "C" void onepass_cpu_losses_v3(onepass::Backend* backend)
#define ONEPASS_JOIN4(a, b, c, d) a##b##c##d
#define ONEPASS_UNIT_NAME(unit, level) ONEPASS_JOIN4(onepass_cpu_, unit, _, level)
#define ONEPASS_CPU_UNIT(unit) \
  extern "C" void ONEPASS_UNIT_NAME(unit, ONEPASS_ISA)(onepass::Backend * backend)
