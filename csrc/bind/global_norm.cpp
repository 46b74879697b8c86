// global_norm: of all elements of a list of arrays together.
#include <cmath>
#include <cstddef>
#include <memory>

#include "bind/border.h"
#include "bind/layout.h"
#include "core/schedule.h"

namespace onepass::bind {
namespace {

constexpr const char* kOp = "global_norm";

NormOrder order_of(PyObject* object) {
  const double value = real(kOp, "ord", object);
  if (value == 1) return NormOrder::one;
  if (value == 2) return NormOrder::two;
  if (std::isinf(value) && value > 0) return NormOrder::inf;
  value_error(kOp, is("ord", object) + ", expected 1, 2 or inf");
}

// The norm stays on the device: an array of no axes, nothing is waited for.
py::object measure_on_device(const Target& target, const std::vector<Tensor>& tensors,
                             NormOrder order) {
  int64_t elements = 0;
  for (const Tensor& t : tensors) elements += t.size;
  static_assert(offsetof(GlobalNormResult, norm) == 0);
  const py::object result = lend(target, sizeof(GlobalNormResult) / sizeof(double), "float64");
  GlobalNorm call;
  call.tensors = tensors.data();
  call.count = int64_t(tensors.size());
  call.schedule.elements = elements;
  call.order = order;
  call.result = static_cast<GlobalNormResult*>(pointer_of(result));
  run(target, target.backend->global_norm, &call, elements);
  return result[py::make_tuple(0, py::ellipsis())];
}

constexpr Argument kTable[] = {
    {"arrays", reference, read | many | strided},
    norm_order("ord"),
};
constexpr Contract kGlobalNorm = contract(kOp, kTable);
constexpr int kArrays = kGlobalNorm.position("arrays"), kOrder = kGlobalNorm.position("ord");

py::object global_norm(Arguments given) {
  given.expect(kOp, kGlobalNorm.given);
  const Items items(kOp, kTable[kArrays].name, given[kArrays]);
  const NormOrder order = order_of(given[kOrder]);
  const auto count = size_t(items.count());
  if (count == 0) return py::float_(0.0);
  const BorderList list(kGlobalNorm, kArrays, items);
  const Target& target = list.target;
  const std::unique_ptr<LayoutOf<1>[]> layouts(new LayoutOf<1>[count]);
  std::vector<Tensor> tensors(count);
  for (size_t i = 0; i < count; ++i) {
    const Array* const array = &list.arrays[i];
    Layout& layout = layouts[i];
    arrange(&layout, &array, 1, false);
    tensors[i].size = layout.size;
    tensors[i].shape = layout.shape;
    tensors[i].ndim = layout.ndim;
    tensors[i].computing = computing_type(array->dtype());
    tensors[i].operands = layout.operands;
  }
  if (target.on_device()) return measure_on_device(target, tensors, order);
  ScheduleStorage schedule;
  schedule.build(tensors.data(), int64_t(count));
  GlobalNormResult result{0, 0, -1};
  GlobalNorm call;
  call.tensors = tensors.data();
  call.count = int64_t(count);
  call.schedule = schedule.view();
  call.order = order;
  call.result = &result;
  if (call.schedule.elements > 0)
    run(target, target.backend->global_norm, &call, call.schedule.elements);
  return py::float_(result.norm);
}

}  // namespace

void define_global_norm(py::module_& m) { define(m, kGlobalNorm, &fast<&global_norm>); }

}  // namespace onepass::bind
