// Compiles the activations whose formula is included before it, forward and backward
// (formula.cu.in), and adds them to the tables.
#pragma once
#include "cuda/loops.cuh"
#include "cuda/units.h"
#include "kernels/activation_table.h"

ONEPASS_CUDA_UNIT(ONEPASS_FORMULA) {
  using namespace onepass::ONEPASS_ISA;
  add_activations(backend);
}
