// The units of all optimizers in one.
#include "cuda/flushed.h"

#include "kernels/update_list.h"
#define ONEPASS_FORMULA every_update
#include "cuda/update_unit.cuh"
