// Plan: an optimizer step over a list of parameters as one call. Everything that can be checked
// once is checked when the plan is made; a step reads the arrays again, compares them with what it
// knows, and looks closer only at what has changed. Nothing is written before every check has
// passed. plan_arrays.cpp reads and checks arrays, plan.cpp runs steps, plan_device.* is what a
// device keeps.
#pragma once
#include <pybind11/numpy.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bind/fast.h"
#include "bind/kernel_info.h"
#include "bind/layout.h"
#include "bind/overlap.h"
#include "bind/plan_device.h"
#include "bind/scalar.h"
#include "bind/staging.h"
#include "cpu/schedule.h"

namespace onepass::bind {

// What the plan knows of an array.
struct Known {
  PyObject* object = nullptr;  // borrowed: of a gradient only its identity is of interest
  void* data = nullptr;
  Element element = Element::other;
  Library library = Library::other;
  bool writable = false;
  int32_t ndim = -1;  // not seen yet
  int32_t cuda_device = -1;
  std::vector<int64_t> dims;  // shape, then strides in bytes
  // Of an exact NumPy array: what its object holds, to be compared without following a pointer.
  const py::detail::PyArray_Proxy* fields = nullptr;
  const void *shape_at = nullptr, *strides_at = nullptr, *descr = nullptr;
  int flags = 0;

  // Whether an exact NumPy array is as it was. Reads one or two cache lines where a full look reads
  // five, and a step over many small arrays finds most of them cold.
  bool still(PyObject* array) const {
    return fields && array == object && Py_TYPE(array) == ndarray() && fields->data == data &&
           fields->dimensions == shape_at && fields->strides == strides_at &&
           fields->descr == descr && fields->flags == flags;
  }
  // An array of CuPy's keeps its memory for as long as it lives, as those of the plan do.
  bool held(PyObject* array) const { return library == Library::cupy && array == object; }
  bool same_layout(const View& v) const {
    if (ndim != v.ndim || element != v.element || writable != v.writable ||
        cuda_device != v.cuda_device || library != v.library)
      return false;
    const int64_t* known = dims.data();
    for (int d = 0; d < ndim; ++d)
      if (known[d] != v.shape[d] || known[ndim + d] != v.stride(d)) return false;
    return true;
  }
  void remember(const Array& v) {
    object = v.object;
    data = v.data;
    element = v.element;
    library = v.library;
    writable = v.writable;
    ndim = v.ndim;
    cuda_device = v.cuda_device;
    dims.assign(v.shape, v.shape + v.ndim);
    for (int d = 0; d < v.ndim; ++d) dims.push_back(v.stride(d));
    remember_fields();
  }
  static const PyTypeObject* ndarray() {
    static PyTypeObject* const type = py::detail::npy_api::get().PyArray_Type_;
    return type;
  }
  void remember_fields() {
    fields = nullptr;
    if (Py_TYPE(object) != ndarray()) return;
    fields = py::detail::array_proxy(object);
    shape_at = fields->dimensions;
    strides_at = fields->strides;
    descr = fields->descr;
    flags = fields->flags;
  }
};

// One parameter.
struct Slot {
  int64_t group = 0, step = 0;
  bool active = false;  // has a gradient in this step
  bool staged = false;  // some array of it needs an aligned copy at every step
  bool torch = false;
  int64_t size = 0;
  int32_t ndim = 0;
  DType computing = DType::f32;
  std::vector<int64_t> dims;  // of the common layout: shape, then strides of every operand
};

// Memory that the plan writes: a parameter or a state.
struct Owned {
  Extent extent;
  uintptr_t reach;  // highest end of this and all before it
  size_t slot, operand;
};

struct StepOptions {
  double unscale = 1, max_value = GradientRider::kNoLimit, max_norm = 0;
  bool clip_norm = false, check_nonfinite = false, zero_grad = false, maximize = false;
  bool zero_skipped = true;
  bool measures() const { return clip_norm || check_nonfinite; }
};

class Plan {
 public:
  // `steps`: what the caller counts himself, how many each parameter has taken; None: the plan
  // counts.
  Plan(const std::string& kernel, const py::object& params, const py::object& states,
       const py::object& groups, const py::object& steps)
      : rule_(rule_named(kernel)),
        info_(variant_of(rule_, states)),
        op_(rule_.name),
        arity_(info_.operands.size()),
        counts_steps_(rule_.counts_steps()) {
    if (arity_ > size_t(kMaxOperands)) throw std::logic_error("kMaxOperands is too small");
    params_ = tuple_of("params", params);
    const Items lists(op_, "states", states.ptr());
    for (size_t s = 0; s < rule_.states.size(); ++s) {
      PyObject* list = lists[Py_ssize_t(s)];
      if (list == Py_None) continue;
      states_.push_back(tuple_of(rule_.states[s], list));
      check_count(rule_.states[s], states_.back().size());
    }
    read_groups(groups);
    known_.resize(params_.size() * arity_);
    operands_.resize(params_.size() * arity_);
    for (size_t i = 0; i < slots_.size(); ++i) {
      Array arrays[kMaxOperands];
      open_slot(i, nullptr, arrays);
      remember(i, arrays);
    }
    index_owned();
    if (!steps.is_none()) {
      set_steps(steps);
    } else if (on_device()) {
      device_steps_.create(target(nullptr), slots_.size());
    }
  }

  py::list steps() const {
    py::list all;
    if (device_steps_) {
      for (const int64_t step : device_steps_.read()) all.append(step);
    } else {
      for (const Slot& slot : slots_) all.append(slot.step);
    }
    return all;
  }
  void set_steps(const py::object& steps) {
    const Items items(op_, "steps", steps.ptr());
    check_count("steps", size_t(items.count()));
    std::vector<int64_t> values;
    for (Py_ssize_t i = 0; i < items.count(); ++i) {
      values.push_back(signed_64(op_, "steps", items[i]));
      if (values.back() < 0)
        value_error(op_, "steps[" + std::to_string(i) + "] is " + std::to_string(values.back()) +
                             ", expected a count >= 0");
    }
    if (device_steps_) return device_steps_.write(values);
    for (size_t i = 0; i < slots_.size(); ++i) slots_[i].step = values[i];
  }

  py::object step(const Arguments& given);
  const char* op() const { return op_; }

 private:
  // ---- arguments

  static const RuleInfo& rule_named(const std::string& name) {
    const RuleInfo* info = find(rules(), name);
    if (!info)
      value_error("Plan", "kernel is '" + name + "', expected one of " + names_of(rules()));
    return *info;
  }
  // The variant with those optional states whose list is not None.
  static const KernelInfo& variant_of(const RuleInfo& rule, const py::object& states) {
    const Items lists(rule.name, "states", states.ptr());
    if (lists.count() != Py_ssize_t(rule.states.size()))
      value_error(rule.name, "'states' has " + std::to_string(lists.count()) + " lists, expected " +
                                 std::to_string(rule.states.size()));
    size_t on = 0;
    for (size_t s = 0; s < rule.states.size(); ++s) {
      const bool given = lists[Py_ssize_t(s)] != Py_None;
      if (!given && s < rule.required())
        type_error(rule.name, "'" + std::string(rule.states[s]) +
                                  "' is None, expected a list of arrays, one for each parameter");
      if (given && s >= rule.required()) on |= size_t(1) << (s - rule.required());
    }
    return rule.variants[on];
  }
  py::tuple tuple_of(const char* name, py::handle object) const {
    const Items items(op_, name, object.ptr());
    py::tuple t(items.count());
    for (Py_ssize_t i = 0; i < items.count(); ++i)
      t[size_t(i)] = py::reinterpret_borrow<py::object>(items[i]);
    return t;
  }
  void check_count(const char* name, size_t count) const {
    if (count != params_.size())
      value_error(op_, "'" + std::string(name) + "' has " + std::to_string(count) +
                           " entries, expected " + std::to_string(params_.size()) +
                           ", one for each parameter");
  }
  void read_groups(const py::object& groups) {
    const Items items(op_, "groups", groups.ptr());
    check_count("groups", size_t(items.count()));
    slots_.resize(params_.size());
    for (size_t i = 0; i < slots_.size(); ++i) {
      slots_[i].group = signed_64(op_, "groups", items[Py_ssize_t(i)]);
      if (slots_[i].group < 0 || slots_[i].group > int64_t(slots_.size()))
        value_error(op_, "groups[" + std::to_string(i) + "] is " + std::to_string(slots_[i].group) +
                             ", expected the number of a group");
      group_count_ = std::max(group_count_, slots_[i].group + 1);
    }
  }
  StepOptions read_options(const Arguments& given) const;
  void read_hyper(PyObject* hyper);

  // ---- arrays

  PyObject* object(size_t i, size_t operand, PyObject* grad) const {
    if (operand == kParam) return PyTuple_GET_ITEM(params_.ptr(), Py_ssize_t(i));
    if (operand == kGrad) return grad;
    return PyTuple_GET_ITEM(states_[operand - kFirstState].ptr(), Py_ssize_t(i));
  }
  Known& known(size_t i, size_t operand) { return known_[i * arity_ + operand]; }

  void open_slot(size_t i, PyObject* grad, Array* arrays) const;
  void remember(size_t i, const Array* arrays);
  void lay_out(size_t i, Array* arrays, Staging* staging, bool zero_grad);
  void refresh(size_t i, PyObject* grad, Staging* staging, bool zero_grad);
  void refresh_all(const Items& grads, Staging* staging, bool zero_grad);
  void collect();
  void find_foreign();

  // ---- memory that is written

  void index_owned();
  void refuse_overlap(const Array& a, const Array& b) const;
  void check_grad(size_t i, PyObject* grad) const;
  void check_grads_apart(const Items& grads) const;

  // ---- running

  bool on_device() const { return !slots_.empty() && known_[kParam].cuda_device >= 0; }
  Target target(const Items* grads) const;
  Elementwise update_call(const StepOptions& options) const;
  Norm norm_call(const StepOptions& options) const;
  py::object step_on_cpu(const Items& grads, const StepOptions& options, Staging* staging);
  py::object step_on_device(const Items& grads, const StepOptions& options);
  void assign_hyper_sets();
  void mark(const Items& grads, bool zero_grad) const;

  const RuleInfo& rule_;
  const KernelInfo& info_;  // the variant of it
  const char* op_;
  size_t arity_;
  bool counts_steps_;
  py::tuple params_;
  std::vector<py::tuple> states_;
  int64_t group_count_ = 0;
  std::vector<Slot> slots_;
  std::vector<Known> known_;       // slot by slot, arity_ each
  std::vector<Operand> operands_;  // likewise
  std::vector<Owned> owned_;

  bool owned_stale_ = false;         // a parameter or state has moved since index_owned
  bool tensors_stale_ = true;        // tensors_ does not describe slots_
  bool grads_apart_ = false;         // no two gradients overlap; known when zero_grad asked for it
  std::vector<size_t> moved_grads_;  // not yet known to keep clear of what is written

  std::vector<Tensor> tensors_;  // of the active slots
  std::vector<size_t> order_;    // their indices
  ScheduleStorage schedule_;     // on the CPU
  int64_t elements_ = 0;         // of all of them
  bool any_torch_ = false;       // among them
  DeviceSteps device_steps_;
  struct Place {
    size_t slot, operand;
  };
  std::vector<Place> foreign_;  // on a device: arrays of other libraries than the first parameter's

  struct HyperSet {
    int64_t group, step;
  };
  std::vector<double> group_hyper_;  // one row per group, without the step
  std::vector<HyperSet> hyper_sets_;
  std::vector<double> hyper_;  // one row per set
  bool busy_ = false;
};

}  // namespace onepass::bind
