// Losses.
#include "cpu/rows.h"
#include "cpu/unit.h"

ONEPASS_CPU_UNIT(losses) { backend->cross_entropy = &onepass::ONEPASS_ISA::cross_entropy; }
