// Tests whether the states of a PyTorch optimizer are still the ones last seen: objects are
// compared by identity alone, since each step asks.
#include <pybind11/critical_section.h>

#include "bind/fast.h"

namespace onepass::bind {
namespace {

// states: a dict of a dict for each parameter. seen: for each of the first of them a triple of its
// key, its dict and the values in that.
py::object same_states(Arguments given) {
  constexpr const char* kOp = "same_states";
  given.expect(kOp, 2);
  PyObject *states = given[0], *seen = given[1];
  if (!PyDict_Check(states) || !PyTuple_Check(seen))
    type_error(kOp, "expected a dict, and a tuple of what was seen");
  const py::scoped_critical_section same(states);
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
    const py::scoped_critical_section same_entry(entry);
    if (PyDict_Size(entry) != PyTuple_GET_SIZE(values)) return py::bool_(false);
    Py_ssize_t inside = 0;
    for (Py_ssize_t v = 0; PyDict_Next(entry, &inside, &key, &value); ++v)
      if (value != PyTuple_GET_ITEM(values, v)) return py::bool_(false);
  }
  return py::bool_(true);
}

}  // namespace

void define_same_states(py::module_& m) {
  define(m, "same_states(states, seen)", &fast<same_states>);
}

}  // namespace onepass::bind
