// Norms over rows with what follows them, forward and backward.
#include "cpu/row_norm.h"
#include "cpu/unit.h"
#include "kernels/row_norm_table.h"

ONEPASS_CPU_UNIT(row_norms) {
  using namespace onepass::ONEPASS_ISA;
  add_row_norms(backend, RowNorms{});
  backend->row_norm_workspace = &row_norms::row_norm_workspace;
}
