// plan_arrays.h: reads the arrays of a plan, checks them and lays them out for a backend.
#include "bind/plan_arrays.h"

static_assert(int(onepass::bind::Element::i8) == int(onepass::kSignedCodes) &&
              int(onepass::bind::Element::u8) == int(onepass::kUnsignedCodes));

namespace onepass::bind {
namespace {

// torch's lazy negation comes from the imaginary part of a conjugate, which is never dense unless
// it is one element.
bool may_be_negated(const View& v) {
  return v.library == Library::torch && (!v.c_order || v.size() == 1);
}

// False where something is wrong; open_slot raises the error.
bool try_view(PyObject* object, View* v) {
  try {
    return view(object, v, false) == ViewError::none && v->described;
  } catch (py::error_already_set&) {
    return false;
  }
}

// The variant with those optional states whose list is not None.
const KernelInfo& variant_of(const RuleInfo& rule, const char* op, const Items& lists) {
  if (lists.count() != Py_ssize_t(rule.states.size()))
    value_error(op, "'states' has " + std::to_string(lists.count()) + " lists, expected " +
                        std::to_string(rule.states.size()));
  size_t on = 0;
  for (size_t s = 0; s < rule.states.size(); ++s) {
    const bool given = lists[Py_ssize_t(s)] != Py_None;
    if (!given && s < rule.required())
      type_error(op, "'" + std::string(rule.states[s]) +
                         "' is None, expected a list of arrays, one for each parameter");
    if (given && s >= rule.required()) on |= size_t(1) << (s - rule.required());
  }
  return rule.variants[on];
}

}  // namespace

Contract plan_contract(const RuleInfo& rule) {
  const KernelInfo& kernel = rule.variants.front();
  std::vector<Argument>& all = *new std::vector<Argument>;
  for (const size_t operand : {kParam, kGrad})
    all.push_back(plan_argument(kernel.operands[operand], operand));
  for (size_t s = 0; s < rule.states.size(); ++s) {
    all.push_back(plan_argument(rule.states[s], kFirstState + s));
    if (kFirstState + s >= rule.first_factor() && s < rule.required())
      all.back() = factor_argument(rule.states[s], kFirstState + s - rule.first_factor());
    if (s >= rule.required()) all.back().use |= optional;
  }
  Contract c{rule.name, all.data(), int(all.size())};
  c.given = c.count;
  return c;
}

PlanArrays::PlanArrays(const RuleInfo& rule, const char* op, const py::object& params,
                       const py::object& states, const py::object& stages)
    : info_(variant_of(rule, op, Items(op, "states", states.ptr()))),
      op_(op),
      first_factor_(rule.first_factor()),
      factors_(rule.factors.size()),
      own_(info_.operands.size()),
      arity_(own_ + (stages.is_none() ? 0 : kStageOperands)) {
  if ((factors_ > 0 || !rule.norms.empty()) && !stages.is_none())
    value_error(op_, "'stages' is given, expected None for an update with " +
                         std::string(factors_ > 0 ? "states of rows" : "norms of tensors"));
  params_ = tuple_of("params", params.ptr());
  slots_.resize(params_.size());
  const Items lists(op_, "states", states.ptr());
  for (size_t s = 0; s < rule.states.size(); ++s) {
    PyObject* list = lists[Py_ssize_t(s)];
    if (list == Py_None) continue;
    states_.push_back(tuple_of(rule.states[s], list));
    check_count(rule.states[s], states_.back().size());
  }
  for (size_t o = own_; o < arity_; ++o) {
    const Items all(op_, "stages", stages.ptr());
    if (all.count() != kStageOperands) value_error(op_, "'stages' needs a list for each stage");
    PyObject* list = all[Py_ssize_t(o - own_)];
    if (list == Py_None) {
      py::tuple none(count());
      for (size_t i = 0; i < count(); ++i) none[i] = py::none();
      states_.push_back(none);
    } else {
      states_.push_back(tuple_of(name_of(o), list));
      check_count(name_of(o), states_.back().size());
    }
  }
  known_.resize(count() * arity_);
  operands_.resize(count() * arity_);
  for (size_t i = 0; i < count(); ++i) {
    std::vector<Array> arrays(arity_);
    open_slot(i, nullptr, arrays.data());
    if (arrays[kParam].library == Library::torch) refuse_non_leaf(arrays[kParam]);
    const bool has_master = has_stages() && arrays[own_ + kMaster];
    if (has_master && size_of(arrays[kParam].dtype()) != 2)
      value_error(op_, arrays[own_ + kMaster].label() + " is given, expected None: " +
                           arrays[kParam].label() + " is not of 16 bits");
    const Array& param = arrays[kParam];
    slots_[i].first_shape.assign(param.shape, param.shape + param.ndim);
    remember(i, arrays.data());
  }
  index_owned();
}

py::tuple PlanArrays::tuple_of(const char* name, PyObject* list) const {
  const Items items(op_, name, list);
  py::tuple t(items.count());
  for (Py_ssize_t i = 0; i < items.count(); ++i)
    t[size_t(i)] = py::reinterpret_borrow<py::object>(items[i]);
  return t;
}

const char* PlanArrays::name_of(size_t operand) const {
  return operand < own_ ? info_.operands[operand] : kStageOperandNames[operand - own_];
}

void PlanArrays::keep_order(bool keep) {
  if (keep == keep_order_) return;
  keep_order_ = keep;
  for (size_t i = 0; i < count(); ++i) known(i, kParam).forget_place();  // lays out all again
}

void PlanArrays::check_count(const char* name, size_t given) const {
  if (given != count())
    value_error(op_, "'" + std::string(name) + "' has " + std::to_string(given) +
                         " entries, expected " + std::to_string(count()) +
                         ", one for each parameter");
}

void PlanArrays::open_operand(Array* a, size_t i, size_t operand, PyObject* grad) const {
  open(a, op_, name_of(operand), object(i, operand, grad), int64_t(i));
}

// Reads all arrays of a parameter and checks each of them and how they fit. Without a gradient that
// entry stays empty.
void PlanArrays::open_slot(size_t i, PyObject* grad, Array* arrays) const {
  for (size_t o = 0; o < arity_; ++o)
    if ((o != kGrad || grad) && !absent(i, o)) open_operand(&arrays[o], i, o, grad);
  check_device(arrays, int(arity_));
  const Array& param = arrays[kParam];
  if (i > 0 && param.cuda_device != known_[kParam].cuda_device)
    type_error(op_, param.label() +
                        " lies on another device than 'params[0]'; use one optimizer "
                        "for each device");
  for (size_t o = 0; o < arity_; ++o) {
    Argument argument = plan_argument(name_of(o), o);
    if (is_factor(o)) argument.kind.shape = Shape::free;
    if (coded(arrays[o], o)) {
      check_codes(arrays[o], param);
    } else if (arrays[o]) {
      check_form(argument, arrays[o], param, nullptr, argument.use & update);
    }
    if (o > kFirstState && o < own_ &&
        coded(arrays[o], o) != coded(arrays[kFirstState], kFirstState))
      type_error(op_, arrays[o].label() + " has dtype " + dtype_text(arrays[o]) + " and " +
                          arrays[kFirstState].label() + " " + dtype_text(arrays[kFirstState]) +
                          ", expected all states of a parameter in 8 bits, or none");
  }
  if (factors_ > 0) check_factors(arrays);
}

void PlanArrays::check_codes(const Array& a, const Array& param) const {
  const std::string given = a.label() + " has dtype " + dtype_text(a);
  if (computing_type(param.dtype()) == DType::f64)
    type_error(op_, given + ", expected float64: " + param.label() + " is computed in float64");
  if (!has_stages()) type_error(op_, given + ", expected float32: the plan has no stages");
  const int64_t bytes = coded_bytes(param.size());
  check_shape(a, &bytes, 1, " for the codes and scales of the parameter");
  check_dense(a);
  check_writable(a);
  if (reinterpret_cast<uintptr_t>(a.data) % alignof(float) != 0)
    value_error(op_, a.label() + " is not aligned to 4 bytes, expected memory that is");
}

// The memory of codes does not say the shape of their parameter.
void PlanArrays::check_coded_shape(size_t i, const Array* arrays) const {
  if (arity_ == kFirstState || !coded(arrays[kFirstState], kFirstState)) return;
  const Array& param = arrays[kParam];
  const std::vector<int64_t>& made_for = slots_[i].first_shape;
  if (std::equal(made_for.begin(), made_for.end(), param.shape, param.shape + param.ndim)) return;
  value_error(op_, param.label() + " has shape " + shape_text(param) + ", expected " +
                       shape_text(made_for.data(), int(made_for.size())) +
                       ", that of its states of 8 bits; make the optimizer after changing the "
                       "parameter");
}

void PlanArrays::remember(size_t i, const Array* arrays) {
  slots_[i].torch = arrays[kParam].library == Library::torch;
  slots_[i].size = arrays[kParam].size();
  const Array& param = arrays[kParam];
  slots_[i].rows = param.ndim >= 2 ? param.shape[0] : 0;
  slots_[i].computing = computing_type(arrays[kParam].dtype());
  for (size_t o = 0; o < arity_; ++o) {
    if (!arrays[o]) continue;
    known(i, o).remember(arrays[o]);
    has_codes_ = has_codes_ || coded(arrays[o], o);
  }
}

int64_t PlanArrays::bytes(size_t i, const std::vector<int>& times) const {
  const KnownArray* const own = known_.data() + i * arity_;
  int64_t sum = 0;
  for (size_t o = 0; o < arity_; ++o) {
    const KnownArray& a = o == kGrad && own[o].ndim < 0 ? own[kParam] : own[o];
    if (a.ndim < 0) continue;
    int64_t size = times[o] * kItemSize[int(a.element)];
    for (int d = 0; d < a.ndim; ++d) size *= a.dims[size_t(d)];
    sum += size;
  }
  return sum + times.back() * slots_[i].size * size_of(slots_[i].computing);
}

// The operands of a parameter, as a backend wants them.
void PlanArrays::lay_out(size_t i, Array* arrays, Staging* staging, bool zero_grad) {
  Slot& slot = slots_[i];
  slot.staged = false;
  for (size_t o = 0; o < arity_; ++o) {
    const bool apart = arrays[o] && is_factor(o) && !arrays[o].c_order;
    if (absent(i, o) || !(apart || Staging::misaligned(arrays[o]))) continue;
    slot.staged = true;
    staging->load(&arrays[o], o != kGrad || zero_grad);
  }
  const std::unique_ptr<int64_t[][kMaxDims]> dims(new int64_t[arity_][kMaxDims]);
  Layout layout{};
  layout.strides = dims.get();
  layout.operands = operands_.data() + i * arity_;
  std::vector<const Array*> operands;
  const auto apart = [&](size_t o) { return absent(i, o) || coded(arrays[o], o); };
  for (size_t o = 0; o < arity_; ++o) operands.push_back(&arrays[apart(o) ? kParam : o]);
  Spread spread;
  if (factors_ > 0) {
    spread_factors(i, arrays, &spread);
    operands[first_factor_] = &spread.of_row;
    operands[first_factor_ + 1] = &spread.of_column;
    operands[first_factor_ + 2] = &arrays[kParam];
  }
  arrange(&layout, operands.data(), int(arity_), in_order() || factors_ > 0);
  const auto ndim = size_t(layout.ndim);
  slot.ndim = layout.ndim;
  slot.dims.resize(ndim * (1 + arity_));
  std::copy(layout.shape, layout.shape + ndim, slot.dims.data());
  for (size_t o = 0; o < arity_; ++o) {
    Operand& operand = layout.operands[o];
    if (absent(i, o) && !is_factor(o)) operand = {};
    if (coded(arrays[o], o)) operand = {arrays[o].data, arrays[o].dtype(), nullptr};
    if (!operand.strides) continue;
    int64_t* strides = slot.dims.data() + ndim * (1 + o);
    std::copy(operand.strides, operand.strides + ndim, strides);
    operand.strides = strides;
  }
}

// Brings a parameter that has a gradient up to date with its arrays.
void PlanArrays::refresh_slot(size_t i, PyObject* grad, Staging* staging, bool zero_grad,
                              Held* held) {
  bool still = !slots_[i].staged;
  for (size_t o = 0; o < arity_ && still; ++o)
    still = absent(i, o) || known(i, o).still(object(i, o, grad));
  if (still) return;
  bool grad_moved = false, others_moved = false, changed = slots_[i].staged;
  void* grad_data = nullptr;
  for (size_t o = 0; o < arity_ && !changed; ++o) {
    View v;
    PyObject* array = object(i, o, grad);
    if (o != kGrad && (absent(i, o) || known(i, o).held(array))) continue;
    if (!try_view(array, &v)) {
      changed = true;
      break;
    }
    if (v.owner) held->push_back(v.owner);
    const KnownArray& k = known(i, o);
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
    open_operand(&array, i, kGrad, grad);  // asks what view() did not
    known(i, kGrad).object = grad;
    known(i, kGrad).remember_fields();
    if (grad_data == known(i, kGrad).data) return;
    Operand& operand = operands_[i * arity_ + kGrad];
    operand.data = static_cast<char*>(operand.data) +
                   (static_cast<char*>(grad_data) - static_cast<char*>(known(i, kGrad).data));
    known(i, kGrad).data = grad_data;
  } else {
    std::vector<Array> arrays(arity_);
    open_slot(i, grad, arrays.data());
    for (const Array& a : arrays)
      if (a.owner) held->push_back(a.owner);
    check_coded_shape(i, arrays.data());
    for (size_t o = 0; o < arity_; ++o)
      if (o != kGrad && !absent(i, o) &&
          (known(i, o).data != arrays[o].data || !known(i, o).same_layout(arrays[o])))
        owned_stale_ = true;
    tensors_stale_ = true;
    remember(i, arrays.data());
    lay_out(i, arrays.data(), staging, zero_grad);
  }
  grads_apart_ = false;
  moved_grads_.push_back(i);
}

void PlanArrays::refresh(const Items& grads, Staging* staging, bool zero_grad, Held* held) {
  check_count("grads", size_t(grads.count()));
  for (size_t i = 0; i < slots_.size(); ++i) {
    PyObject* grad = grads[Py_ssize_t(i)];
    const bool active = grad != Py_None;
    if (active) refresh_slot(i, grad, staging, zero_grad, held);
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
    check_grads_writable(grads);
    if (!grads_apart_) check_grads_apart(grads);
    grads_apart_ = true;
  }
  if (tensors_stale_) collect();
}

// Lists the tensors of this step and cuts the list for threads.
void PlanArrays::collect() {
  tensors_.clear();
  order_.clear();
  all_factors_.clear();
  elements_ = 0;
  any_torch_ = false;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (!slot.active) continue;
    Tensor tensor;
    tensor.size = slot.size;
    tensor.shape = slot.dims.data();
    tensor.ndim = slot.ndim;
    tensor.computing = slot.computing;
    tensor.operands = operands_.data() + i * arity_;
    tensor.parameter = int64_t(i);
    tensor.rows = slot.rows;
    tensors_.push_back(tensor);
    if (factors_ > 0) all_factors_.push_back(slot.factors);
    order_.push_back(i);
    elements_ += slot.size;
    any_torch_ = any_torch_ || slot.torch;
  }
  if (on_device()) {
    find_foreign();
  } else {
    schedule_.build(tensors_.data(), int64_t(tensors_.size()));
  }
  tensors_stale_ = false;
  ++collected_;
}

// One array of each library beside the first parameter's is enough to know its stream; where the
// library is not known, each has one of its own.
void PlanArrays::find_foreign() {
  foreign_.clear();
  std::vector<Library> seen{known(0, kParam).library};
  for (const size_t i : order_)
    for (size_t o = 0; o < arity_; ++o) {
      if (absent(i, o)) continue;
      const Library library = known(i, o).library;
      if (library != Library::other && std::find(seen.begin(), seen.end(), library) != seen.end())
        continue;
      seen.push_back(library);
      foreign_.push_back({i, o});
    }
}

Schedule PlanArrays::schedule() const {
  Schedule schedule = schedule_.view();
  schedule.elements = elements_;
  return schedule;
}

Target PlanArrays::target(const Items* grads) const {
  Array first;
  open_operand(&first, 0, kParam, nullptr);
  Target where = check_device(&first, 1);
  if (!grads) return where;
  for (const Place& place : foreign_) {
    Array a;
    open_operand(&a, place.slot, place.operand, (*grads)[Py_ssize_t(place.slot)]);
    add_stream(&where, a);
  }
  return where;
}

void PlanArrays::mark_written(const Items& grads, bool zero_grad) const {
  if (!any_torch_) return;
  py::list written;
  for (const size_t i : order_) {
    if (!slots_[i].torch) continue;
    written.append(params_[i]);
    if (zero_grad) written.append(py::handle(grads[Py_ssize_t(i)]));
  }
  if (written.size() > 0) bind::mark_written(written);
}

void PlanArrays::zero_grads(const Items& grads) const {
  for (const size_t i : order_) {
    Array grad;
    open_operand(&grad, i, kGrad, grads[Py_ssize_t(i)]);
    fill_zero(grad);
    bind::mark_written(grad);
  }
}

}  // namespace onepass::bind
