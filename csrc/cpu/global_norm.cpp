// The norm of a list of tensors.
#include "cpu/global_norm.h"
#include "cpu/unit.h"

ONEPASS_CPU_UNIT(global_norm) { backend->global_norm = &onepass::ONEPASS_ISA::global_norm; }
