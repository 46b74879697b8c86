// Python functions without pybind11's dispatcher: positional arguments only, read as they are
// needed. A kernel call costs more in keyword parsing than in everything else the border does.
#pragma once
#include <string>

#include "bind/messages.h"

namespace onepass::bind {

struct Arguments {
  PyObject* const* at;
  Py_ssize_t count;
  PyObject* operator[](Py_ssize_t i) const { return at[i]; }
  // TypeError unless there are exactly so many.
  void expect(const char* op, Py_ssize_t wanted) const;
};

using FastFunction = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);

// C++ exceptions → Python's; call inside a catch block.
void set_python_error() noexcept;

// Function is py::object(Arguments).
template <auto Function>
PyObject* fast(PyObject*, PyObject* const* at, Py_ssize_t count) {
  try {
    return Function(Arguments{at, count}).release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

// Function is py::object(Arguments, const State&): one of several that share their code.
template <auto Function, class State>
PyObject* fast_with(PyObject* self, PyObject* const* at, Py_ssize_t count) {
  try {
    const auto* state = static_cast<const State*>(PyCapsule_GetPointer(self, nullptr));
    return Function(Arguments{at, count}, *state).release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

// A function of this module. `signature` is "relu(x, out)"; the part before the bracket is its
// name. `state` is that of fast_with, and is never freed.
py::object make_function(const py::module_& m, const std::string& signature, FastFunction function,
                         const void* state = nullptr);
// The same as an attribute of the module.
void define(py::module_& m, const std::string& signature, FastFunction function);
void define_method(py::handle type, const std::string& signature, FastFunction function);

// The items of a list, a tuple or another sequence. Without a GIL those of a list are copied, since
// another thread may change it at any time.
class Items {
 public:
  Items(const char* op, const char* name, PyObject* object);
  Py_ssize_t count() const { return PySequence_Fast_GET_SIZE(sequence_.ptr()); }
  PyObject* operator[](Py_ssize_t i) const { return PySequence_Fast_GET_ITEM(sequence_.ptr(), i); }

 private:
  py::object sequence_;
};

// The parts of the module, one per file.
void define_elementwise(py::module_& m);
void define_bias_act(py::module_& m);
void define_batch_norm(py::module_& m);
void define_shared_batch_norm(py::module_& m);
void define_row_norms(py::module_& m);
void define_row_losses(py::module_& m);
void define_pointwise_losses(py::module_& m);
void define_softmax(py::module_& m);
void define_maxout(py::module_& m);
void define_glu(py::module_& m);
void define_windows(py::module_& m);
void define_global_norm(py::module_& m);
void define_contracts(py::module_& m);
void define_plan(py::module_& m);
void define_group_rows(py::module_& m);
void define_same_states(py::module_& m);
void define_codes(py::module_& m);
void define_runtime(py::module_& m);
void define_streams(py::module_& m);

}  // namespace onepass::bind
