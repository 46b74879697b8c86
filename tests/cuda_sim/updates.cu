// The units of all optimizers in one; of a few with ONEPASS_SIM_FEW, which the sanitizers take:
// every driver, and kernels of two to six arrays.
#include "cuda/flushed.h"

#ifdef ONEPASS_SIM_FEW
#define ONEPASS_FORMULA every_update
#include "kernels/adafactor.h"
#include "kernels/adam.h"
#include "kernels/lamb.h"
#include "kernels/nadam.h"
#include "kernels/rprop.h"
#include "kernels/sgd.h"
#endif
#include "kernels/update_list.h"
#ifndef ONEPASS_SIM_FEW
#define ONEPASS_FORMULA every_update
#endif
#include "cuda/update_unit.cuh"
