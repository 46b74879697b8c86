#include "bind/autograd.h"

#include "bind/kept.h"

namespace onepass::bind {
namespace {

bool is_true(PyObject* object, PyObject* name) {
  const auto answer = py::reinterpret_steal<py::object>(PyObject_GetAttr(object, name));
  if (!answer) throw py::error_already_set();
  return answer.ptr() == Py_True;
}

bool requires_grad(const Array& tensor) {
  static Name name("requires_grad");
  return is_true(tensor.object, name.get());
}

bool grad_mode() {
  static Kept enabled;
  PyObject* const ask =
      enabled.get([] { return py::object(py::module_::import("torch").attr("is_grad_enabled")); });
  const auto answer = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(ask));
  if (!answer) throw py::error_already_set();
  return answer.ptr() == Py_True;
}

// Only inside torch.autograd.forward_ad.dual_level() can a tensor carry a tangent.
bool has_tangent(const Array& tensor) {
  static Kept module;
  static Name level_name("_current_level");
  PyObject* const forward =
      module.get([] { return py::object(py::module_::import("torch.autograd.forward_ad")); });
  const auto level = py::reinterpret_steal<py::object>(PyObject_GetAttr(forward, level_name.get()));
  if (!level || PyLong_AsLong(level.ptr()) < 0) {
    PyErr_Clear();
    return false;
  }
  const py::object dual = py::handle(forward).attr("unpack_dual")(py::handle(tensor.object));
  return !dual.attr("tangent").is_none();
}

// The cure: 'params[3]' → params[3].detach()
std::string detached(const Array& tensor) {
  const std::string label = tensor.label();
  return label.substr(1, label.size() - 2) + ".detach()";
}

// Named only where it is installed.
const char* front() {
  const py::object find = py::module_::import("importlib.util").attr("find_spec");
  return find("onepass.torch").is_none() ? "" : ", or use onepass.torch";
}

}  // namespace

void refuse_recorded(const Array& tensor) {
  if (requires_grad(tensor) && grad_mode())
    type_error(tensor.op, tensor.label() +
                              " is a torch tensor that requires a gradient, and this call would "
                              "cut it off from autograd in silence; pass " +
                              detached(tensor) + front());
  if (has_tangent(tensor))
    type_error(tensor.op, tensor.label() +
                              " is a torch tensor with a forward-mode tangent, which this call "
                              "would drop in silence; pass " +
                              detached(tensor) + front());
}

void refuse_non_leaf(const Array& tensor) {
  static Name is_leaf("is_leaf");
  if (requires_grad(tensor) && !is_true(tensor.object, is_leaf.get()))
    value_error(tensor.op, tensor.label() +
                               " is a torch tensor with a history (not a leaf of autograd's "
                               "graph), which cannot be trained; pass the leaf, or " +
                               detached(tensor));
}

void mark_written(py::handle tensors) {
  static Kept function;
  PyObject* const increment = function.get([]() -> py::object {
    const py::object modules = py::module_::import("sys").attr("modules");
    if (!modules.contains("torch")) return {};
    return modules["torch"].attr("autograd").attr("graph").attr("increment_version");
  });
  if (increment) py::reinterpret_borrow<py::object>(increment)(tensors);
}

}  // namespace onepass::bind
