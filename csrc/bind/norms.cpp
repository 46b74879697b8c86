// global_norm: of all elements of a list of arrays together.
#include <cmath>
#include <cstddef>
#include <memory>

#include "bind/fast.h"
#include "bind/layout.h"
#include "bind/overlap.h"
#include "bind/result.h"
#include "bind/scalar.h"
#include "bind/staging.h"
#include "core/schedule.h"

namespace onepass::bind {
namespace {

constexpr const char* kOp = "global_norm";

NormOrder order_of(PyObject* object) {
  const double value = real(kOp, "ord", object);
  if (value == 1) return NormOrder::one;
  if (value == 2) return NormOrder::two;
  if (std::isinf(value) && value > 0) return NormOrder::inf;
  value_error(kOp, "ord is " + repr(object) + ", expected 1, 2 or inf");
}

// The norm stays on the device: an array of no axes, nothing is waited for.
py::object measure_on_device(const Target& target, const std::vector<Tensor>& tensors,
                             NormOrder order) {
  int64_t elements = 0;
  for (const Tensor& t : tensors) elements += t.size;
  static_assert(sizeof(NormResult) == 3 * sizeof(double) && offsetof(NormResult, norm) == 0);
  const py::object result = lend(target, 3, "float64");
  Norm call;
  call.tensors = tensors.data();
  call.count = int64_t(tensors.size());
  call.schedule.elements = elements;
  call.order = order;
  call.result = static_cast<NormResult*>(pointer_of(result));
  run(target, target.backend->norm, &call, elements);
  return result[py::make_tuple(0, py::ellipsis())];
}

py::object global_norm(Arguments given) {
  given.expect(kOp, 2);
  const Items items(kOp, "arrays", given[0]);
  const NormOrder order = order_of(given[1]);
  const auto count = size_t(items.count());
  if (count == 0) return py::float_(0.0);
  std::vector<Array> arrays(count);
  for (size_t i = 0; i < count; ++i)
    open(&arrays[i], kOp, "arrays", items[Py_ssize_t(i)], int64_t(i));
  const Target target = check_device(arrays.data(), int(count));
  Staging staging;
  const std::unique_ptr<Layout[]> layouts(new Layout[count]);
  std::vector<Tensor> tensors(count);
  for (size_t i = 0; i < count; ++i) {
    check_floating(arrays[i]);
    staging.load_misaligned(&arrays[i], false);
    Layout& layout = layouts[i];
    arrange(&layout, &arrays[i], 1, false);
    tensors[i].size = layout.size;
    tensors[i].shape = layout.shape;
    tensors[i].ndim = layout.ndim;
    tensors[i].computing = computing_type(arrays[i].dtype());
    tensors[i].operands = layout.operands;
  }
  if (target.on_device()) return measure_on_device(target, tensors, order);
  ScheduleStorage schedule;
  schedule.build(tensors.data(), int64_t(count));
  NormResult result{0, 0, -1};
  Norm call;
  call.tensors = tensors.data();
  call.count = int64_t(count);
  call.schedule = schedule.view();
  call.order = order;
  call.result = &result;
  if (call.schedule.elements > 0) run(target, target.backend->norm, &call, call.schedule.elements);
  return py::float_(result.norm);
}

}  // namespace

void define_norms(py::module_& m) { define(m, "global_norm(arrays, ord)", &fast<&global_norm>); }

}  // namespace onepass::bind
