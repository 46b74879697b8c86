// plan_arrays.h: no two arrays that a plan writes share memory, nor do they with a gradient.
#include "bind/plan_arrays.h"

namespace onepass::bind {

void PlanArrays::refuse_overlap(const Array& a, const Array& b) const {
  if (same_memory(a, b))
    value_error(op_, b.label() + " is the same array as " + a.label() + "; pass each array once");
  if (overlap(a, b))
    value_error(op_, b.label() + " overlaps " + a.label() + " in memory; pass separate arrays");
}

// Sorts everything that is written by its place in memory and refuses what overlaps.
void PlanArrays::index_owned() {
  owned_.clear();
  auto reopen = [this](Array* a, const Owned& o) { open_operand(a, o.slot, o.operand, nullptr); };
  for (size_t i = 0; i < slots_.size(); ++i) {
    for (size_t o = 0; o < arity_; ++o) {
      if (o == kGrad || absent(i, o)) continue;
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

void PlanArrays::check_grad(size_t i, PyObject* object_) const {
  Array grad;
  open_operand(&grad, i, kGrad, object_);
  if (grad.size() == 0) return;
  const Extent extent = extent_of(grad);
  size_t n =
      size_t(std::lower_bound(owned_.begin(), owned_.end(), extent.high,
                              [](const Owned& o, uintptr_t high) { return o.extent.low < high; }) -
             owned_.begin());
  for (; n-- > 0 && owned_[n].reach > extent.low;) {
    const Owned& o = owned_[n];
    Array other;
    open_operand(&other, o.slot, o.operand, nullptr);
    refuse_overlap(other, grad);
  }
}

void PlanArrays::check_grads_writable(const Items& grads) {
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].active || known(i, kGrad).writable) continue;
    Array grad;
    open_operand(&grad, i, kGrad, grads[Py_ssize_t(i)]);
    check_writable(grad);
  }
}

// With zero_grad gradients are written too: one that is shared would be read again after the step
// had zeroed it.
void PlanArrays::check_grads_apart(const Items& grads) const {
  std::vector<Array> arrays;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i].active) continue;
    Array grad;
    open_operand(&grad, i, kGrad, grads[Py_ssize_t(i)]);
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
