// NumPy arrays are made here, in a third of the time that numpy takes; onepass._array makes those
// of other libraries, and all that are not dense. For a library that only has DLPack the results
// are NumPy arrays until the call is done, and then handed to it.
#include "bind/result.h"

#include <pybind11/numpy.h>

#include <algorithm>

#include "bind/autograd.h"
#include "bind/protocols.h"

namespace onepass::bind {
namespace {

using NumPy = py::detail::npy_api;

py::object arrays_module() { return py::module_::import("onepass._array"); }

// An unknown library cannot allocate an array: the TypeError of onepass._array gets the call's
// name.
template <class Ask>
py::object ask(const Array& like, Ask question) {
  try {
    return question(arrays_module());
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
    type_error(like.op, py::cast<std::string>(py::str(error.value())));
  }
}

// Of a library that only has DLPack, results are NumPy arrays until `returned` hands them over.
bool is_foreign(const Array& a) {
  return (a.library == Library::other || a.library == Library::jax) && a.cuda_device < 0;
}

bool is_ndarray(const Array& a) {
  return reinterpret_cast<PyObject*>(Py_TYPE(a.object)) ==
         reinterpret_cast<PyObject*>(NumPy::get().PyArray_Type_);
}

// Takes the reference to the descriptor.
py::object new_ndarray(PyObject* descr, const int64_t* shape, int ndim) {
  const NumPy& numpy = NumPy::get();
  PyObject* array = numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, descr, ndim,
                                                reinterpret_cast<const Py_intptr_t*>(shape),
                                                nullptr, nullptr, 0, nullptr);
  if (!array) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(array);
}

PyObject* descr_of(const Array& a) {
  PyObject* descr = py::detail::array_proxy(a.object)->descr;
  Py_INCREF(descr);
  return descr;
}
PyObject* computing_descr(const Array& like) {
  const bool wide = computing_type(like.dtype()) == DType::f64;
  return NumPy::get().PyArray_DescrFromType_(wide ? NumPy::NPY_DOUBLE_ : NumPy::NPY_FLOAT_);
}

void open_made(Array* a, const char* op, const char* name, py::object made) {
  open(a, op, name, made.ptr());
  a->made = std::move(made);
}

// A producer may describe its memory once like this, and to NumPy otherwise.
void check_made(const Array& a, const int64_t* shape, int ndim, Element element,
                const Array& like) {
  if (a.element != element || a.ndim != ndim || !std::equal(shape, shape + ndim, a.shape))
    value_error(a.op, like.label() + " of type " + Py_TYPE(like.object)->tp_name +
                          " describes itself in two ways, expected one; copy it to a NumPy array");
}

}  // namespace

void open_result(Array* a, const char* op, const char* name, PyObject* given, const Array& like) {
  if (given != Py_None) return open_detached(a, op, name, given);
  open_made(a, op, name,
            is_ndarray(like) && like.c_order
                ? new_ndarray(descr_of(like), like.shape, like.ndim)
                : ask(like, [&](const py::object& m) {
                    return py::object(m.attr("empty_like")(py::handle(like.object)));
                  }));
  if (is_foreign(like)) check_made(*a, like.shape, like.ndim, like.element, like);
}

void make(Array* a, const char* op, const char* name, const int64_t* shape, int ndim,
          const Array& like, bool computing) {
  if (is_ndarray(like))
    return open_made(a, op, name,
                     new_ndarray(computing ? computing_descr(like) : descr_of(like), shape, ndim));
  if (computing && like.library == Library::torch && like.cuda_device < 0) {
    const bool wide = computing_type(like.dtype()) == DType::f64;
    py::object made = new_tensor(like.object, wide ? Element::f64 : Element::f32, shape, ndim);
    if (made) return open_made(a, op, name, std::move(made));
  }
  open_made(a, op, name, ask(like, [&](const py::object& m) {
              py::tuple extents(ndim);
              for (int d = 0; d < ndim; ++d) extents[size_t(d)] = shape[d];
              const py::handle object(like.object);
              const py::object dtype = computing ? m.attr("parameter_dtype")(object)
                                                 : py::getattr(object, "dtype", py::none());
              return py::object(m.attr("empty")(extents, dtype, object));
            }));
  const Element element = computing ? Element(computing_type(like.dtype())) : like.element;
  if (is_foreign(like)) check_made(*a, shape, ndim, element, like);
}

void make_bytes(Array* a, const char* op, const char* name, const int64_t* shape, int ndim,
                Element element) {
  const int type = element == Element::boolean ? NumPy::NPY_BOOL_ : NumPy::NPY_UBYTE_;
  open_made(a, op, name, new_ndarray(NumPy::get().PyArray_DescrFromType_(type), shape, ndim));
}

void open_dense(Array* a, const char* op, const char* name, PyObject* object) {
  open_detached(a, op, name, object);
  if (a->c_order) return;
  py::object dense = arrays_module().attr("contiguous")(py::handle(object));
  *a = Array{};
  open_made(a, op, name, std::move(dense));
}

py::object returned(const Array& a, const Array& like) {
  const py::handle object(a.object);
  if (!a.made || !is_foreign(like)) return py::reinterpret_borrow<py::object>(object);
  return arrays_module().attr("returned")(object, py::handle(like.object));
}

py::object convert(const Array& a, const char* dtype) {
  return ask(a, [&](const py::object& m) {
    return py::object(m.attr("convert")(py::handle(a.object), dtype));
  });
}

py::object scalar(double value, const Array& like) {
  if (like.library != Library::numpy)
    return ask(like, [&](const py::object& m) {
      return py::object(m.attr("scalar")(value, py::handle(like.object)));
    });
  const NumPy& numpy = NumPy::get();
  const py::object descr = py::reinterpret_steal<py::object>(computing_descr(like));
  float narrow = float(value);
  const bool wide = computing_type(like.dtype()) == DType::f64;
  PyObject* made =
      numpy.PyArray_Scalar_(wide ? static_cast<void*>(&value) : &narrow, descr.ptr(), nullptr);
  if (!made) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(made);
}

}  // namespace onepass::bind
