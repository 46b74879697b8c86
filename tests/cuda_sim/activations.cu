// The units of all activations in one; of a few with ONEPASS_SIM_FEW, which the sanitizers take.
#define ONEPASS_ISA cuda
#ifdef ONEPASS_SIM_FEW
#define ONEPASS_FORMULA every_activation
#include "kernels/gelu.h"
#include "kernels/leaky_relu.h"
#include "kernels/relu.h"
#endif
#include "kernels/activation_list.h"
#ifndef ONEPASS_SIM_FEW
#define ONEPASS_FORMULA every_activation
#endif
#include "cuda/activation_unit.cuh"
