// The arrays of a plan: read, checked, laid out for a backend, and kept apart in memory.
#include "bind/plan.h"

namespace onepass::bind {
namespace {

// torch's lazy negation comes from the imaginary part of a conjugate, which is never dense unless
// it is one element.
bool may_be_negated(const View& v) {
  return v.library == Library::torch && (!v.c_order || v.size() == 1);
}

// False where something is wrong, which open_slot will say.
bool try_view(PyObject* object, View* v) {
  try {
    return view(object, v, false) == ViewError::none && v->described;
  } catch (py::error_already_set&) {
    return false;
  }
}

}  // namespace

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
  any_torch_ = false;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (!slot.active) continue;
    tensors_.push_back({slot.size, slot.dims.data(), slot.ndim, 0, slot.computing,
                        operands_.data() + i * arity_, int64_t(i)});
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

}  // namespace onepass::bind
