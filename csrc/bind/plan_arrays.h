// The arrays of a plan: parameters, gradients, states. They are checked in full once; a step
// compares them with those of the last step and checks again only the ones that changed.
// plan_overlap.cpp checks that no two written arrays share memory; plan_factors.cpp handles states
// of rows and columns.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "bind/border.h"
#include "bind/kernel_info.h"
#include "bind/known_array.h"
#include "bind/layout.h"
#include "core/codes.h"
#include "core/schedule.h"
#include "core/stage_row.h"

namespace onepass::bind {

// The contract of a list of arrays, by its operand's position. A gradient may be None, which leaves
// its parameter out of a step; zero_grad writes it.
constexpr Argument plan_argument(const char* name, size_t operand) {
  constexpr unsigned use = many | strided;
  return {name, operand == kParam ? reference : compatible_reference,
          operand == kGrad ? use | read | optional : use | update};
}
// The same of a factor, by its position among them: PlanArrays::check_factors checks the shape.
constexpr Argument factor_argument(const char* name, size_t factor) {
  constexpr Shape shapes[] = {Shape::matrix_row, Shape::matrix_column, Shape::vector};
  return {name, {shapes[factor], Type::compatible}, many | strided | update};
}
// The same of all lists of a rule; lives as long as the process.
Contract plan_contract(const RuleInfo& rule);

class PlanArrays {
 public:
  // A list of arrays for each state of the rule; None for an optional state that the caller leaves
  // out. `stages`: None, or a list for each StageOperand, with None where a parameter has no such
  // array; None for a list of them.
  // `op`: whom messages name.
  PlanArrays(const RuleInfo& rule, const char* op, const py::object& params,
             const py::object& states, const py::object& stages);

  // The variant of the rule with the states that are there.
  const KernelInfo& kernel() const { return info_; }
  size_t count() const { return slots_.size(); }
  bool on_device() const { return !slots_.empty() && known_[kParam].cuda_device >= 0; }
  // ValueError unless a list has an entry for each parameter.
  void check_count(const char* name, size_t count) const;
  // Whether tensors have the operands of stages.
  bool has_stages() const { return arity_ > own_; }
  // Stages ask that elements keep their C-order index, which random bits follow.
  void keep_order(bool keep);
  // Whether they do: codes of 8 bits ask for it too.
  bool in_order() const { return keep_order_ || has_codes_; }

  bool has_rows(size_t i) const { return slots_[i].rows > 0; }
  bool has_master(size_t i) const { return has_stages() && !absent(i, own_ + kMaster); }
  // Of the arrays of parameter i, each so many times: operands, a copy. Of a gradient that no step
  // has seen, as many as of the parameter.
  int64_t bytes(size_t i, const std::vector<int>& times) const;

  // For a rule with factors (core/factors.h): the bytes that its pass leaves for the later passes,
  // and where they will be.
  const std::vector<Factors>& factors() const { return all_factors_; }
  int64_t factored_bytes() const;
  void place_factored(void* memory);

  // ---- a step

  // Looks at all arrays; nothing is written before all of them have passed. None: no gradient.
  // `held` gets what keeps their memory where an array object alone does not: a producer of DLPack
  // may export a copy, or give its memory to something else.
  using Held = std::vector<py::object>;
  void refresh(const Items& grads, Staging* staging, bool zero_grad, Held* held);
  // The parameters that have a gradient, as tensors, and tensor t's index among all parameters.
  std::vector<Tensor>& tensors() { return tensors_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const std::vector<size_t>& order() const { return order_; }
  int64_t elements() const { return elements_; }
  // How often tensors() has been made anew.
  uint64_t collected() const { return collected_; }
  Schedule schedule() const;
  // Where a step runs. Without gradients: where the plan's own arrays are.
  Target target(const Items* grads) const;
  void mark_written(const Items& grads, bool zero_grad) const;
  void zero_grads(const Items& grads) const;

 private:
  // One parameter.
  struct Slot {
    bool active = false;  // has a gradient in this step
    bool staged = false;  // some array of it needs an aligned copy at every step
    bool torch = false;
    std::vector<int64_t> first_shape;  // of the parameter when the plan was made
    int64_t size = 0;
    int64_t rows = 0;  // Tensor::rows
    Factors factors;   // Elementwise::factors
    int32_t ndim = 0;
    DType computing = DType::f32;
    std::vector<int64_t> dims;  // of the common layout: shape, then strides of every operand
  };
  struct Place {
    size_t slot, operand;
  };
  // Memory that the plan writes: a parameter or a state.
  struct Owned {
    Extent extent;
    uintptr_t reach;  // highest end of this and all before it
    size_t slot, operand;
  };

  PyObject* object(size_t i, size_t operand, PyObject* grad) const {
    if (operand == kParam) return PyTuple_GET_ITEM(params_.ptr(), Py_ssize_t(i));
    if (operand == kGrad) return grad;
    return PyTuple_GET_ITEM(states_[operand - kFirstState].ptr(), Py_ssize_t(i));
  }
  // A parameter without such an array.
  bool absent(size_t i, size_t operand) const {
    return (operand >= own_ || is_factor(operand)) && object(i, operand, nullptr) == Py_None;
  }
  bool is_factor(size_t operand) const {
    return operand >= first_factor_ && operand < first_factor_ + factors_;
  }
  const char* name_of(size_t operand) const;
  // A state of 8 bits, in memory of its own form (core/codes.h).
  bool coded(const Array& a, size_t operand) const {
    return operand >= kFirstState && operand < own_ && a && is_coded(a.dtype());
  }
  void check_codes(const Array& a, const Array& param) const;
  KnownArray& known(size_t i, size_t operand) { return known_[i * arity_ + operand]; }

  py::tuple tuple_of(const char* name, PyObject* list) const;
  void open_operand(Array* a, size_t i, size_t operand, PyObject* grad) const;
  void open_slot(size_t i, PyObject* grad, Array* arrays) const;
  void check_coded_shape(size_t i, const Array* arrays) const;
  void remember(size_t i, const Array* arrays);
  void lay_out(size_t i, Array* arrays, Staging* staging, bool zero_grad);

  // One entry for each element of a parameter: what an update reads of the states of its row and
  // column.
  struct Spread {
    int64_t strides[2][kMaxAxes];
    Array of_row, of_column;
  };
  void check_factors(const Array* arrays) const;
  void spread_factors(size_t i, const Array* arrays, Spread* spread);
  void refresh_slot(size_t i, PyObject* grad, Staging* staging, bool zero_grad, Held* held);
  void collect();
  void find_foreign();

  void index_owned();
  void refuse_overlap(const Array& a, const Array& b) const;
  void check_grad(size_t i, PyObject* grad) const;
  void check_grads_writable(const Items& grads);
  void check_grads_apart(const Items& grads) const;

  const KernelInfo& info_;
  const char* op_;
  size_t first_factor_, factors_;  // operands that are factors
  size_t own_;                     // operands of the rule
  size_t arity_;                   // with those of stages
  bool keep_order_ = false, has_codes_ = false;
  py::tuple params_;
  std::vector<py::tuple> states_;
  std::vector<Slot> slots_;
  std::vector<KnownArray> known_;  // slot by slot, arity_ each
  std::vector<Operand> operands_;  // likewise
  std::vector<Owned> owned_;

  bool owned_stale_ = false;         // a parameter or state has moved since index_owned
  bool tensors_stale_ = true;        // tensors_ does not describe slots_
  bool grads_apart_ = false;         // no two gradients overlap; known when zero_grad asked for it
  std::vector<size_t> moved_grads_;  // not yet known to keep clear of what is written

  uint64_t collected_ = 0;
  std::vector<Tensor> tensors_;       // of the active slots
  std::vector<size_t> order_;         // their indices
  std::vector<Factors> all_factors_;  // theirs, of a rule with factors
  ScheduleStorage schedule_;          // on the CPU
  int64_t elements_ = 0;              // of all of them
  bool any_torch_ = false;            // among them
  std::vector<Place> foreign_;  // on a device: arrays of other libraries than the first parameter's
};

}  // namespace onepass::bind
