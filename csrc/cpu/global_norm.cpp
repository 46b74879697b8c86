// The norm of a list of tensors.
#include "cpu/reduce.h"
#include "cpu/unit.h"

ONEPASS_CPU_UNIT(global_norm) { backend->norm = &onepass::ONEPASS_ISA::norm; }
