// Losses.
#include "cpu/cross_entropy.h"
#include "cpu/unit.h"

ONEPASS_CPU_UNIT(losses) { backend->cross_entropy = &onepass::ONEPASS_ISA::cross_entropy; }
