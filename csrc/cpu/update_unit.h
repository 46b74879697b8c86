// Compiles every variant of the optimizers whose rule is included before it (formula.cpp.in), and
// adds them to the table.
#include "cpu/factors.h"
#include "cpu/staged_piece.h"
#include "cpu/tensor_norms.h"
#include "cpu/unit.h"
#include "kernels/update_table.h"

ONEPASS_CPU_UNIT(ONEPASS_FORMULA) {
  using namespace onepass::ONEPASS_ISA;
  add_updates(backend, Updates{});
}
