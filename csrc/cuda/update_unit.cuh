// Compiles every variant of the optimizers whose rule is included before it (formula.cu.in), and
// adds them to the table.
#pragma once
#include "cuda/factors.cuh"
#include "cuda/loops.cuh"
#include "cuda/tensor_norms.cuh"
#include "cuda/units.h"
#include "kernels/update_table.h"

ONEPASS_BEGIN
namespace {

struct Driver {
  template <template <class> class K>
  static constexpr Run<Elementwise> update() {
    return &elementwise<K, kGradientOperand>;
  }
  template <template <class> class M>
  static constexpr Run<Elementwise> measure() {
    return &tensor_norms::measure<M, kGradientOperand>;
  }
  template <template <class> class F>
  static constexpr Run<Elementwise> factor() {
    return &factors::factor<F>;
  }
  static int64_t factor_workspace(const Elementwise& call) { return factors::workspace(call); }
};

}  // namespace
ONEPASS_END

ONEPASS_CUDA_UNIT(ONEPASS_FORMULA) {
  using namespace onepass::ONEPASS_ISA;
  add_updates<Driver>(backend, Updates{});
}
