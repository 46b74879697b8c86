// Whether an optimizer's groups hold what they held at its last step. Each step asks, so objects
// are compared by identity alone: Python looks closer at another object that may be equal.
#include "bind/fast.h"

namespace onepass::bind {
namespace {

// What a group held.
struct Seen {
  PyObject *values, *list, *parameters;
  Seen(const char* op, PyObject* triple, Py_ssize_t keys) {
    const bool fits = PyTuple_Check(triple) && PyTuple_GET_SIZE(triple) == 3;
    values = fits ? PyTuple_GET_ITEM(triple, 0) : Py_None;
    list = fits ? PyTuple_GET_ITEM(triple, 1) : Py_None;
    parameters = fits ? PyTuple_GET_ITEM(triple, 2) : Py_None;
    if (!PyTuple_Check(values) || PyTuple_GET_SIZE(values) != keys || !PyTuple_Check(parameters))
      type_error(op, "'seen' is " + repr(triple) + ", expected (values, list, parameters)");
  }
};

bool same_values(PyObject* group, PyObject* keys, PyObject* values) {
  for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(keys); ++k) {
    PyObject* value = PyDict_GetItemWithError(group, PyTuple_GET_ITEM(keys, k));
    if (!value && PyErr_Occurred()) throw py::error_already_set();
    if (value != PyTuple_GET_ITEM(values, k)) return false;
  }
  return true;
}

bool same_items(PyObject* list, PyObject* items) {
  if (!PyList_Check(list) || PyList_GET_SIZE(list) != PyTuple_GET_SIZE(items)) return false;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i)
    if (PyList_GET_ITEM(list, i) != PyTuple_GET_ITEM(items, i)) return false;
  return true;
}

// groups: dicts. keys: those of options. seen: a triple for each group.
py::object same_groups(Arguments given) {
  constexpr const char* kOp = "same_groups";
  given.expect(kOp, 3);
  PyObject *groups = given[0], *keys = given[1], *seen = given[2];
  if (!PyTuple_Check(keys) || !PyTuple_Check(seen))
    type_error(kOp, "'keys' or 'seen' is no tuple, expected tuples");
  if (!PyList_Check(groups) || PyList_GET_SIZE(groups) != PyTuple_GET_SIZE(seen))
    return py::bool_(false);
  static PyObject* const params = PyUnicode_InternFromString("params");
  for (Py_ssize_t g = 0; g < PyTuple_GET_SIZE(seen); ++g) {
    const Seen before(kOp, PyTuple_GET_ITEM(seen, g), PyTuple_GET_SIZE(keys));
    PyObject* group = PyList_GET_ITEM(groups, g);
    if (!PyDict_Check(group) || !same_values(group, keys, before.values)) return py::bool_(false);
    if (PyDict_GetItemWithError(group, params) != before.list) return py::bool_(false);
    if (!same_items(before.list, before.parameters)) return py::bool_(false);
  }
  return py::bool_(true);
}

}  // namespace

void define_plan_groups(py::module_& m) {
  define(m, "same_groups(groups, keys, seen)", &fast<same_groups>);
}

}  // namespace onepass::bind
