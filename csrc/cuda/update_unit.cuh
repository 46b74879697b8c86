// Compiles every variant of the optimizers whose rule is included before it (formula.cu.in), and
// adds them to the table.
#pragma once
#include "cuda/factors.cuh"
#include "cuda/loops.cuh"
#include "cuda/tensor_norms.cuh"
#include "cuda/units.h"
#include "kernels/update_table.h"

ONEPASS_CUDA_UNIT(ONEPASS_FORMULA) {
  using namespace onepass::ONEPASS_ISA;
  add_updates(backend, Updates{});
}
