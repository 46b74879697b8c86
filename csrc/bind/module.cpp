// onepass._C: a table of contents. border.h has the checks, view.h the protocols.
#include <deque>
#include <new>

#include "bind/fast.h"

namespace onepass::bind {

void Arguments::expect(const char* op, Py_ssize_t wanted) const {
  if (count != wanted)
    type_error(op, "expected " + std::to_string(wanted) + " positional arguments, got " +
                       std::to_string(count));
}

void set_python_error() noexcept {
  try {
    throw;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
}

Items::Items(const char* op, const char* name, PyObject* object) {
#ifdef Py_GIL_DISABLED
  if (PyList_CheckExact(object)) {
    sequence_ = py::reinterpret_steal<py::object>(PyList_AsTuple(object));
    if (!sequence_) throw py::error_already_set();
    return;
  }
#endif
  sequence_ = py::reinterpret_steal<py::object>(PySequence_Fast(object, ""));
  if (sequence_) return;
  PyErr_Clear();
  type_error(op, std::string("'") + name + "' is a " + Py_TYPE(object)->tp_name +
                     ", expected a list or tuple");
}

// Python keeps pointers into the definition for as long as the process lives.
static PyMethodDef* definition(const std::string& signature, bool method, FastFunction function) {
  struct Definition {
    std::string name, doc;
    PyMethodDef method;
  };
  static std::deque<Definition>& all = *new std::deque<Definition>;
  Definition& d = all.emplace_back();
  const size_t bracket = signature.find('(');
  const std::string parameters = signature.substr(bracket + 1, signature.size() - bracket - 2);
  d.name = signature.substr(0, bracket);
  d.doc = d.name + "(" + (method ? "$self, " : "") + parameters +
          (method || !parameters.empty() ? ", /" : "") + ")\n--\n\n";
  d.method = {d.name.c_str(), reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(function)),
              METH_FASTCALL, d.doc.c_str()};
  return &d.method;
}

py::object make_function(const py::module_& m, const std::string& signature, FastFunction function,
                         const void* state) {
  const py::object module_name = m.attr("__name__");
  py::object self;
  if (state) self = py::capsule(state);
  return py::reinterpret_steal<py::object>(
      PyCFunction_NewEx(definition(signature, false, function), self.ptr(), module_name.ptr()));
}

void define(py::module_& m, const std::string& signature, FastFunction function) {
  const py::object made = make_function(m, signature, function);
  m.attr(made.attr("__name__")) = made;
}

void define_method(py::handle type, const std::string& signature, FastFunction function) {
  PyMethodDef* method = definition(signature, true, function);
  type.attr(method->ml_name) = py::reinterpret_steal<py::object>(
      PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), method));
}

}  // namespace onepass::bind

PYBIND11_MODULE(_C, m, pybind11::mod_gil_not_used(),
                pybind11::multiple_interpreters::not_supported()) {
  using namespace onepass::bind;
  m.doc() = "Kernels on arrays; every check of their arguments is here. Private: see onepass.ops.";
  m.attr("__version__") = ONEPASS_VERSION;
  define_elementwise(m);
  define_bias_act(m);
  define_batch_norm(m);
  define_shared_batch_norm(m);
  define_row_norms(m);
  define_row_losses(m);
  define_pointwise_losses(m);
  define_softmax(m);
  define_maxout(m);
  define_glu(m);
  define_windows(m);
  define_global_norm(m);
  define_contracts(m);
  define_plan(m);
  define_group_rows(m);
  define_same_states(m);
  define_codes(m);
  define_runtime(m);
  define_streams(m);
}
