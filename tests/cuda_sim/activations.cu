// The units of all activations in one.
#define ONEPASS_ISA cuda
#include "kernels/activation_list.h"
#define ONEPASS_FORMULA every_activation
#include "cuda/activation_unit.cuh"
