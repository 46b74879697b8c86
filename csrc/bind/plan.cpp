// Plan: an optimizer step over a list of parameters as one call. Everything that can be checked
// once is checked when the plan is made; a step reads the arrays again, compares them with what it
// knows, and looks closer only at what has changed. Nothing is written before every check has
// passed.
#include <pybind11/numpy.h>

#include <algorithm>
#include <cmath>

#include "bind/fast.h"
#include "bind/kernel_info.h"
#include "bind/plan_device.h"
#include "cpu/dispatch.h"
#include "cpu/schedule.h"
#include "kernels/gradient.h"

namespace onepass::bind {
namespace {

constexpr size_t kParam = 0, kGrad = 1, kFirstState = 2;  // operands of every update

// torch's lazy negation comes from the imaginary part of a conjugate, which is never dense unless
// it is one element.
bool may_be_negated(const View& v) {
  return v.library == Library::torch && (!v.c_order || v.size() == 1);
}

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
  bool measures() const { return clip_norm || check_nonfinite; }
};

class Plan {
 public:
  // `steps`: what the caller counts himself, how many each parameter has taken; None: the plan
  // counts.
  Plan(const std::string& kernel, const py::object& params, const py::object& states,
       const py::object& groups, const py::object& steps)
      : info_(kernel_named(kernel)),
        op_(info_.name),
        arity_(info_.operands.size()),
        counts_steps_(info_.counts_steps()) {
    if (arity_ > size_t(kMaxOperands)) throw std::logic_error("kMaxOperands is too small");
    params_ = tuple_of("params", params);
    const py::tuple lists = tuple_of("states", states);
    if (lists.size() != arity_ - kFirstState)
      value_error(op_, "'states' has " + std::to_string(lists.size()) + " lists, expected " +
                           std::to_string(arity_ - kFirstState));
    for (size_t s = 0; s < lists.size(); ++s) {
      const char* name = info_.operands[kFirstState + s];
      states_.push_back(tuple_of(name, lists[s]));
      check_count(name, states_.back().size());
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

  static const KernelInfo& kernel_named(const std::string& name) {
    const KernelInfo* info = find(updates(), name);
    if (!info)
      value_error("Plan", "kernel is '" + name + "', expected one of " + names_of(updates()));
    return *info;
  }
  py::tuple tuple_of(const char* name, const py::handle& object) const {
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

  const KernelInfo& info_;
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

// ---- arrays

// Reads all arrays of a parameter and checks each of them and how they fit. Without a gradient that
// entry stays empty.
void Plan::open_slot(size_t i, PyObject* grad, Array* arrays) const {
  for (size_t o = 0; o < arity_; ++o)
    if (o != kGrad || grad)
      open(&arrays[o], op_, info_.operands[o], object(i, o, grad), int64_t(i));
  check_device(arrays, int(arity_));
  const Array& param = arrays[kParam];
  if (i > 0 && param.cuda_device != known_[kParam].cuda_device)
    type_error(op_, param.label() +
                        " lies on another device than 'params[0]'; use one optimizer "
                        "for each device");
  check_floating(param);
  for (size_t o = 0; o < arity_; ++o) {
    if (!arrays[o]) continue;
    check_floating(arrays[o]);
    check_shape_like(arrays[o], param);
    if (computing_type(arrays[o].dtype()) != computing_type(param.dtype()))
      type_error(
          op_, arrays[o].label() + " has dtype " + dtype_text(arrays[o]) + ", expected " +
                   (computing_type(param.dtype()) == DType::f64 ? "float64"
                                                                : "float32, float16 or bfloat16") +
                   " for " + param.label() + " of " + dtype_text(param));
    if (o != kGrad) check_writable(arrays[o]);
  }
}

void Plan::remember(size_t i, const Array* arrays) {
  slots_[i].torch = arrays[kParam].library == Library::torch;
  slots_[i].size = arrays[kParam].size();
  slots_[i].computing = computing_type(arrays[kParam].dtype());
  for (size_t o = 0; o < arity_; ++o)
    if (arrays[o]) known(i, o).remember(arrays[o]);
}

// The operands of a parameter, as a backend wants them.
void Plan::lay_out(size_t i, Array* arrays, Staging* staging, bool zero_grad) {
  Slot& slot = slots_[i];
  slot.staged = false;
  for (size_t o = 0; o < arity_; ++o) {
    if (!Staging::misaligned(arrays[o])) continue;
    slot.staged = true;
    staging->load(&arrays[o], o != kGrad || zero_grad);
  }
  Layout layout;
  arrange(&layout, arrays, int(arity_), false);
  const auto ndim = size_t(layout.ndim);
  slot.ndim = layout.ndim;
  slot.dims.resize(ndim * (1 + arity_));
  std::copy(layout.shape, layout.shape + ndim, slot.dims.data());
  for (size_t o = 0; o < arity_; ++o) {
    Operand& operand = operands_[i * arity_ + o];
    operand = layout.operands[o];
    if (!operand.strides) continue;
    int64_t* strides = slot.dims.data() + ndim * (1 + o);
    std::copy(operand.strides, operand.strides + ndim, strides);
    operand.strides = strides;
  }
}

// False where something is wrong, which open_slot will say.
bool try_view(PyObject* object, View* v) {
  try {
    return view(object, v, false) == ViewError::none && v->described;
  } catch (py::error_already_set&) {
    return false;
  }
}

// Brings a parameter that has a gradient up to date with its arrays.
void Plan::refresh(size_t i, PyObject* grad, Staging* staging, bool zero_grad) {
  bool still = !slots_[i].staged;
  for (size_t o = 0; o < arity_ && still; ++o) still = known(i, o).still(object(i, o, grad));
  if (still) return;
  bool grad_moved = false, others_moved = false, changed = slots_[i].staged;
  void* grad_data = nullptr;
  for (size_t o = 0; o < arity_ && !changed; ++o) {
    View v;
    PyObject* array = object(i, o, grad);
    if (o != kGrad && known(i, o).held(array)) continue;
    if (!try_view(array, &v)) {
      changed = true;
      break;
    }
    const Known& k = known(i, o);
    changed = !k.same_layout(v);
    if (o == kGrad) {
      grad_data = v.data;
      grad_moved = v.data != k.data || array != k.object || may_be_negated(v);
    } else {
      others_moved = others_moved || v.data != k.data;
    }
  }
  if (!changed && !others_moved) {
    if (!grad_moved) return;
    Array array;
    open(&array, op_, info_.operands[kGrad], grad, int64_t(i));  // asks what view() did not
    known(i, kGrad).object = grad;
    known(i, kGrad).remember_fields();
    if (grad_data == known(i, kGrad).data) return;
    Operand& operand = operands_[i * arity_ + kGrad];
    operand.data = static_cast<char*>(operand.data) +
                   (static_cast<char*>(grad_data) - static_cast<char*>(known(i, kGrad).data));
    known(i, kGrad).data = grad_data;
  } else {
    Array arrays[kMaxOperands];
    open_slot(i, grad, arrays);
    for (size_t o = 0; o < arity_; ++o)
      if (o != kGrad && (known(i, o).data != arrays[o].data || !known(i, o).same_layout(arrays[o])))
        owned_stale_ = true;
    tensors_stale_ = true;
    remember(i, arrays);
    lay_out(i, arrays, staging, zero_grad);
  }
  grads_apart_ = false;
  moved_grads_.push_back(i);
}

void Plan::refresh_all(const Items& grads, Staging* staging, bool zero_grad) {
  check_count("grads", size_t(grads.count()));
  for (size_t i = 0; i < slots_.size(); ++i) {
    PyObject* grad = grads[Py_ssize_t(i)];
    const bool active = grad != Py_None;
    if (active) refresh(i, grad, staging, zero_grad);
    if (active != slots_[i].active) {
      slots_[i].active = active;
      tensors_stale_ = true;
      grads_apart_ = false;
    }
  }
  if (owned_stale_) index_owned();
  // Forgotten only when all have passed: after a refusal the next step looks at them again.
  for (const size_t i : moved_grads_)
    if (slots_[i].active) check_grad(i, grads[Py_ssize_t(i)]);
  moved_grads_.clear();
  if (zero_grad) {
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (!slots_[i].active || known(i, kGrad).writable) continue;
      Array grad;
      open(&grad, op_, info_.operands[kGrad], grads[Py_ssize_t(i)], int64_t(i));
      check_writable(grad);
    }
    if (!grads_apart_) check_grads_apart(grads);
    grads_apart_ = true;
  }
  if (tensors_stale_) collect();
}

// The list of tensors of this step, and how it is dealt out.
void Plan::collect() {
  tensors_.clear();
  order_.clear();
  elements_ = 0;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (!slot.active) continue;
    tensors_.push_back({slot.size, slot.dims.data(), slot.ndim, 0, slot.computing,
                        operands_.data() + i * arity_, int64_t(i)});
    order_.push_back(i);
    elements_ += slot.size;
  }
  if (on_device()) {
    find_foreign();
  } else {
    schedule_.build(tensors_.data(), int64_t(tensors_.size()));
  }
  tensors_stale_ = false;
}

// One array of each library beside the first parameter's is enough to know its stream; where the
// library is not known, each has one of its own.
void Plan::find_foreign() {
  foreign_.clear();
  std::vector<Library> seen{known(0, kParam).library};
  for (const size_t i : order_)
    for (size_t o = 0; o < arity_; ++o) {
      const Library library = known(i, o).library;
      if (library != Library::other && std::find(seen.begin(), seen.end(), library) != seen.end())
        continue;
      seen.push_back(library);
      foreign_.push_back({i, o});
    }
}

// ---- memory that is written

void Plan::refuse_overlap(const Array& a, const Array& b) const {
  if (same_memory(a, b))
    value_error(op_, b.label() + " is the same array as " + a.label() + "; pass each array once");
  if (overlap(a, b))
    value_error(op_, b.label() + " overlaps " + a.label() + " in memory; pass separate arrays");
}

// Sorts everything that is written by its place in memory and refuses what overlaps.
void Plan::index_owned() {
  owned_.clear();
  auto reopen = [this](Array* a, const Owned& o) {
    open(a, op_, info_.operands[o.operand], object(o.slot, o.operand, nullptr), int64_t(o.slot));
  };
  for (size_t i = 0; i < slots_.size(); ++i) {
    for (size_t o = 0; o < arity_; ++o) {
      if (o == kGrad) continue;
      Owned entry{{}, 0, i, o};
      Array a;
      reopen(&a, entry);
      if (a.size() == 0) continue;
      entry.extent = extent_of(a);
      owned_.push_back(entry);
    }
  }
  std::stable_sort(owned_.begin(), owned_.end(),
                   [](const Owned& a, const Owned& b) { return a.extent.low < b.extent.low; });
  uintptr_t reach = 0;
  for (size_t n = 0; n < owned_.size(); ++n) {
    for (size_t m = n; m-- > 0 && owned_[m].reach > owned_[n].extent.low;) {
      if (owned_[m].extent.high <= owned_[n].extent.low) continue;
      Array a, b;
      reopen(&a, owned_[m]);
      reopen(&b, owned_[n]);
      refuse_overlap(a, b);
    }
    reach = std::max(reach, owned_[n].extent.high);
    owned_[n].reach = reach;
  }
  owned_stale_ = false;
}

void Plan::check_grad(size_t i, PyObject* object_) const {
  Array grad;
  open(&grad, op_, info_.operands[kGrad], object_, int64_t(i));
  if (grad.size() == 0) return;
  const Extent extent = extent_of(grad);
  size_t n =
      size_t(std::lower_bound(owned_.begin(), owned_.end(), extent.high,
                              [](const Owned& o, uintptr_t high) { return o.extent.low < high; }) -
             owned_.begin());
  for (; n-- > 0 && owned_[n].reach > extent.low;) {
    const Owned& o = owned_[n];
    Array other;
    open(&other, op_, info_.operands[o.operand], object(o.slot, o.operand, nullptr),
         int64_t(o.slot));
    refuse_overlap(other, grad);
  }
}

// With zero_grad gradients are written too: one that is shared would be read after it was zeroed.
void Plan::check_grads_apart(const Items& grads) const {
  std::vector<Array> arrays;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].active) continue;
    Array grad;
    open(&grad, op_, info_.operands[kGrad], grads[Py_ssize_t(i)], int64_t(i));
    check_writable(grad);
    if (grad.size() > 0) arrays.push_back(std::move(grad));
  }
  std::stable_sort(arrays.begin(), arrays.end(), [](const Array& a, const Array& b) {
    return extent_of(a).low < extent_of(b).low;
  });
  std::vector<uintptr_t> reach;
  for (size_t n = 0; n < arrays.size(); ++n) {
    const Extent extent = extent_of(arrays[n]);
    for (size_t m = n; m-- > 0 && reach[m] > extent.low;) refuse_overlap(arrays[m], arrays[n]);
    reach.push_back(std::max(n ? reach.back() : 0, extent.high));
  }
}

// ---- running

StepOptions Plan::read_options(const Arguments& given) const {
  StepOptions options;
  options.unscale = real(op_, "unscale", given[2]);
  if (given[3] != Py_None) options.max_value = real(op_, "max_value", given[3]);
  options.clip_norm = given[4] != Py_None;
  if (options.clip_norm) options.max_norm = real(op_, "max_norm", given[4]);
  options.check_nonfinite = boolean(op_, "check_nonfinite", given[5]);
  options.zero_grad = boolean(op_, "zero_grad", given[6]);
  options.maximize = boolean(op_, "maximize", given[7]);
  return options;
}

void Plan::read_hyper(PyObject* hyper) {
  const Items groups(op_, "hyper", hyper);
  if (groups.count() < group_count_)
    value_error(op_, "'hyper' has " + std::to_string(groups.count()) + " groups, expected " +
                         std::to_string(group_count_));
  const auto wanted = Py_ssize_t(info_.hyper.size() - counts_steps_);
  group_hyper_.clear();
  for (Py_ssize_t g = 0; g < group_count_; ++g) {
    const Items row(op_, "hyper", groups[g]);
    if (row.count() != wanted)
      value_error(op_, "hyper[" + std::to_string(g) + "] has " + std::to_string(row.count()) +
                           " values, expected " + std::to_string(wanted));
    for (Py_ssize_t h = 0; h < wanted; ++h)
      group_hyper_.push_back(real(op_, info_.hyper[size_t(h)], row[h]));
  }
}

// One row of hyper-parameters for every pair of group and step count that occurs.
void Plan::assign_hyper_sets() {
  // Where the device counts, a row serves the whole group and the step in it is not read.
  const bool counts = counts_steps_, known_here = counts && !device_steps_;
  const size_t given = info_.hyper.size() - counts;
  hyper_sets_.clear();
  hyper_.clear();
  size_t at = 0;
  for (size_t t = 0; t < tensors_.size(); ++t) {
    const Slot& slot = slots_[order_[t]];
    const HyperSet wanted{slot.group, known_here ? slot.step + 1 : 0};
    auto is_wanted = [&](const HyperSet& s) {
      return s.group == wanted.group && s.step == wanted.step;
    };
    if (at >= hyper_sets_.size() || !is_wanted(hyper_sets_[at])) {
      at = size_t(std::find_if(hyper_sets_.begin(), hyper_sets_.end(), is_wanted) -
                  hyper_sets_.begin());
      if (at == hyper_sets_.size()) {
        hyper_sets_.push_back(wanted);
        const double* row = group_hyper_.data() + size_t(slot.group) * given;
        hyper_.insert(hyper_.end(), row, row + given);
        if (counts) hyper_.push_back(double(wanted.step));
      }
    }
    tensors_[t].hyper_set = int32_t(at);
  }
}

void Plan::mark(const Items& grads, bool zero_grad) const {
  py::list written;
  for (const size_t i : order_) {
    if (!slots_[i].torch) continue;
    written.append(params_[i]);
    if (zero_grad) written.append(py::handle(grads[Py_ssize_t(i)]));
  }
  if (written.size() > 0) mark_written(written);
}

struct Busy {
  bool& flag;
  Busy(const char* op, bool& f) : flag(f) {
    if (flag)
      throw std::runtime_error(std::string(op) + ": another thread is running a step of this plan");
    flag = true;
  }
  ~Busy() { flag = false; }
};

py::object Plan::step(const Arguments& given) {
  given.expect(op_, 8);
  const Busy busy(op_, busy_);
  const Items grads(op_, "grads", given[0]);
  const StepOptions options = read_options(given);
  read_hyper(given[1]);
  Staging staging;
  refresh_all(grads, &staging, options.zero_grad);
  assign_hyper_sets();
  return on_device() ? step_on_device(grads, options) : step_on_cpu(grads, options, &staging);
}

py::object outcome(PyObject* skipped, const py::object& norm, const py::object& nonfinite) {
  return py::reinterpret_steal<py::object>(PyTuple_Pack(3, skipped, norm.ptr(), nonfinite.ptr()));
}

// What both have in common: no step is skipped, clipped or counted yet.
Norm Plan::norm_call(const StepOptions& options) const {
  return {tensors_.data(), int64_t(tensors_.size()), schedule_.view(),  int32_t(kGrad),
          NormOrder::two,  options.unscale,          options.max_value, nullptr,
          nullptr};
}
Elementwise Plan::update_call(const StepOptions& options) const {
  return {tensors_.data(),
          int64_t(tensors_.size()),
          schedule_.view(),
          hyper_.data(),
          int64_t(hyper_sets_.size()),
          int64_t(info_.hyper.size()),
          {0, 0, 0},
          {options.unscale, options.max_value, options.maximize ? -1.0 : 1.0, options.zero_grad,
           nullptr, 0, false},
          nullptr};
}

py::object Plan::step_on_cpu(const Items& grads, const StepOptions& options, Staging* staging) {
  const Backend& backend = cpu_backend();
  NormResult norm{0, 0, -1};
  bool skipped = false;
  {
    const ReleaseGil released(elements_);
    if (options.measures() && elements_ > 0) {
      Norm call = norm_call(options);
      call.result = &norm;
      backend.norm(call);
    }
    skipped = options.check_nonfinite && norm.first_nonfinite >= 0;
    if (!skipped && elements_ > 0) {
      Elementwise call = update_call(options);
      if (options.clip_norm)
        call.rider.coefficient *= host::clip_coefficient(options.max_norm, norm.clamped_norm);
      backend.update[info_.index](call);
    }
  }
  if (!skipped) {
    staging->store();
    for (const size_t i : order_) ++slots_[i].step;
    mark(grads, options.zero_grad);
  } else if (options.zero_grad) {
    for (const size_t i : order_) {
      Array grad;
      open(&grad, op_, info_.operands[kGrad], grads[Py_ssize_t(i)], int64_t(i));
      fill_zero(grad);
      mark_written(grad);
    }
  }
  py::object norm_out = py::none(), index_out = py::none();
  if (options.clip_norm) norm_out = py::float_(norm.norm);
  if (norm.first_nonfinite >= 0) index_out = py::int_(order_[size_t(norm.first_nonfinite)]);
  return outcome(skipped ? Py_True : Py_False, norm_out, index_out);
}

// Where a step runs. Without gradients: where the plan's own arrays are.
Target Plan::target(const Items* grads) const {
  Array first;
  open(&first, op_, info_.operands[kParam], object(0, kParam, nullptr), 0);
  Target where = check_device(&first, 1);
  if (!grads) return where;
  for (const Place& place : foreign_) {
    Array a;
    open(&a, op_, info_.operands[place.operand],
         object(place.slot, place.operand, (*grads)[Py_ssize_t(place.slot)]), int64_t(place.slot));
    add_stream(&where, a);
  }
  return where;
}

// Nothing is waited for: the update reads the norm and the counts where they are, and whether it
// was skipped is for the reader of the result to find out. The result is (None, NormResult as an
// array of three, (index of each tensor's parameter, device, stream)).
py::object Plan::step_on_device(const Items& grads, const StepOptions& options) {
  if (tensors_.empty()) return outcome(Py_False, py::none(), py::none());
  const Target where = target(&grads);
  const Backend& backend = *where.backend;
  Norm norm = norm_call(options);
  Elementwise update = update_call(options);
  norm.stream = update.stream = where.stream;
  norm.schedule.elements = update.schedule.elements = elements_;
  if (device_steps_) {
    update.rider.steps = device_steps_.counts();
    update.rider.ticket = device_steps_.tickets();
    norm.ticket = device_steps_.tickets() + 1;
  }
  int64_t bytes = workspace_bytes(backend, update);
  py::object result = py::none(), workspace;
  if (options.measures()) {
    bytes = std::max(bytes, workspace_bytes(backend, norm));
    result = lend(where, sizeof(NormResult) / sizeof(double), "float64");
    norm.result = static_cast<NormResult*>(pointer_of(result));
    update.rider.norm = norm.result;
    update.rider.max_norm = options.clip_norm ? options.max_norm : 0;
    update.rider.skip_nonfinite = options.check_nonfinite;
  }
  if (bytes > 0) {  // of both, one after the other
    workspace = lend(where, bytes, "uint8");
    norm.workspace = update.workspace = pointer_of(workspace);
  }
  {
    const Launches launches(where);
    if (options.measures()) launches.run(backend.norm, norm, elements_);
    launches.run(backend.update[info_.index], update, elements_);
    launches.finish();
  }
  device_steps_.follow(where);
  mark(grads, options.zero_grad);
  if (!options.measures()) return outcome(Py_False, py::none(), py::none());
  py::tuple positions(options.check_nonfinite ? order_.size() : 0);
  for (size_t t = 0; t < positions.size(); ++t) positions[t] = order_[t];
  return outcome(
      Py_None, result,
      py::make_tuple(positions, where.device, reinterpret_cast<uintptr_t>(where.stream)));
}

// Of an object made by Plan.__new__ alone, pybind11 would hand out memory that nobody has filled.
Plan& plan_of(py::handle self) {
  auto held = reinterpret_cast<py::detail::instance*>(self.ptr())->get_value_and_holder();
  if (!held.holder_constructed())
    type_error("Plan", "the object was not initialised; call Plan(…)");
  return *held.value_ptr<Plan>();
}

PyObject* plan_step(PyObject* self, PyObject* const* at, Py_ssize_t count) {
  try {
    return plan_of(self).step({at, count}).release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

}  // namespace

void define_plan(py::module_& m) {
  const py::handle plain(reinterpret_cast<PyObject*>(&PyType_Type));
  py::class_<Plan> plan(m, "Plan", py::is_final(), py::metaclass(plain));
  plan.def(py::init<const std::string&, const py::object&, const py::object&, const py::object&,
                    const py::object&>(),
           py::arg("kernel"), py::arg("params"), py::arg("states"), py::arg("groups"),
           py::arg("steps") = py::none(), py::pos_only())
      .def_property(
          "steps", [](const py::object& self) { return plan_of(self).steps(); },
          [](const py::object& self, const py::object& steps) { plan_of(self).set_steps(steps); });
  define_method(plan,
                "step(grads, hyper, unscale, max_value, max_norm, check_nonfinite, zero_grad, "
                "maximize)",
                &plan_step);
}

}  // namespace onepass::bind
