// Norms over rows with what follows them, forward and backward.
#include "cuda/flushed.h"

#include "cuda/row_norm.cuh"
#include "cuda/units.h"
#include "kernels/row_norm_table.h"

ONEPASS_CUDA_UNIT(row_norms) {
  using namespace onepass::ONEPASS_ISA;
  ONEPASS_ISA::add_row_norms(backend, RowNorms{});  // the unit has the same name
  backend->row_norm_workspace = &row_norm_workspace;
}
