// Whether an optimizer's groups and states hold what they held at its last step. Each step asks, so
// objects are compared by identity alone: Python looks closer at another object that may be equal.
// Only a new rate, which a schedule sets at every step, is taken over here.
#include "bind/contract.h"
#include "bind/fast.h"

namespace onepass::bind {
namespace {

// The former options of a group.
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

// A row of hyper-parameters that begins with another rate.
py::object with_rate(PyObject* row, PyObject* rate) {
  py::tuple changed(PyTuple_GET_SIZE(row));
  changed[0] = py::reinterpret_borrow<py::object>(rate);
  for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(row); ++i)
    changed[size_t(i)] = py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(row, i));
  return changed;
}

// groups: dicts. rate: the key of the rate, which a row of `hypers` begins with; None: none leads.
// keys: those of all other options. seen: a triple for each group. hypers: a row for each.
py::object group_hypers(Arguments given) {
  constexpr const char* kOp = "group_hypers";
  given.expect(kOp, 5);
  PyObject *groups = given[0], *rate = given[1], *keys = given[2], *seen = given[3];
  PyObject* hypers = given[4];
  if (!PyTuple_Check(keys) || !PyTuple_Check(seen) || !PyList_Check(hypers))
    type_error(kOp, "expected tuples of keys and of what was seen, and a list of rows");
  const Py_ssize_t count = PyTuple_GET_SIZE(seen);
  if (count == 0 || !PyList_Check(groups) || PyList_GET_SIZE(groups) != count) return py::none();
  if (rate != Py_None && PyList_GET_SIZE(hypers) != count)
    type_error(kOp, "expected a row for each group");
  static PyObject* const params = PyUnicode_InternFromString("params");
  py::object rows = py::reinterpret_borrow<py::object>(hypers);
  for (Py_ssize_t g = 0; g < count; ++g) {
    const Seen before(kOp, PyTuple_GET_ITEM(seen, g), PyTuple_GET_SIZE(keys));
    PyObject* group = PyList_GET_ITEM(groups, g);
    if (!PyDict_Check(group) || !same_values(group, keys, before.values)) return py::none();
    if (PyDict_GetItemWithError(group, params) != before.list) return py::none();
    if (!same_items(before.list, before.parameters)) return py::none();
    if (rate == Py_None) continue;
    PyObject* row = PyList_GET_ITEM(rows.ptr(), g);
    if (!PyTuple_Check(row) || PyTuple_GET_SIZE(row) == 0) type_error(kOp, "expected tuples");
    PyObject* now = PyDict_GetItemWithError(group, rate);
    if (now == PyTuple_GET_ITEM(row, 0)) continue;
    if (!now || !PyFloat_CheckExact(now)) return py::none();
    const double value = PyFloat_AS_DOUBLE(now);
    if (!(value >= 0 && value <= kLargest)) return py::none();
    if (rows.ptr() == hypers)  // the first that has changed
      rows = py::reinterpret_steal<py::object>(PyList_GetSlice(hypers, 0, count));
    if (!rows || PyList_SetItem(rows.ptr(), g, with_rate(row, now).release().ptr()) != 0)
      throw py::error_already_set();
  }
  return rows;
}

// states: a dict of a dict for each parameter. seen: for each of the first of them a triple of its
// key, its dict and the values in that.
py::object same_states(Arguments given) {
  constexpr const char* kOp = "same_states";
  given.expect(kOp, 2);
  PyObject *states = given[0], *seen = given[1];
  if (!PyDict_Check(states) || !PyTuple_Check(seen))
    type_error(kOp, "expected a dict, and a tuple of what was seen");
  Py_ssize_t at = 0;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(seen); ++i) {
    PyObject* before = PyTuple_GET_ITEM(seen, i);
    if (!PyTuple_Check(before) || PyTuple_GET_SIZE(before) != 3 ||
        !PyTuple_Check(PyTuple_GET_ITEM(before, 2)))
      type_error(kOp, "'seen' has " + repr(before) + ", expected (key, dict, values)");
    PyObject *key = nullptr, *entry = nullptr, *value = nullptr;
    if (!PyDict_Next(states, &at, &key, &entry) || key != PyTuple_GET_ITEM(before, 0) ||
        entry != PyTuple_GET_ITEM(before, 1) || !PyDict_Check(entry))
      return py::bool_(false);
    PyObject* values = PyTuple_GET_ITEM(before, 2);
    if (PyDict_Size(entry) != PyTuple_GET_SIZE(values)) return py::bool_(false);
    Py_ssize_t inside = 0;
    for (Py_ssize_t v = 0; PyDict_Next(entry, &inside, &key, &value); ++v)
      if (value != PyTuple_GET_ITEM(values, v)) return py::bool_(false);
  }
  return py::bool_(true);
}

}  // namespace

void define_plan_groups(py::module_& m) {
  define(m, "group_hypers(groups, rate, keys, seen, hypers)", &fast<group_hypers>);
  define(m, "same_states(states, seen)", &fast<same_states>);
}

}  // namespace onepass::bind
