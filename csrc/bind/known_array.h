// An array as a plan last saw it.
#pragma once
#include <pybind11/numpy.h>

#include <vector>

#include "bind/array.h"

namespace onepass::bind {

// A step views in full only the arrays that have changed.
struct KnownArray {
  PyObject* object = nullptr;  // borrowed: of a gradient only its identity matters
  void* data = nullptr;
  Element element = Element::other;
  Library library = Library::other;
  bool writable = false;
  int32_t ndim = -1;  // not seen yet
  int32_t cuda_device = -1;
  std::vector<int64_t> dims;  // shape, then strides in bytes
  // The fields of an exact NumPy array's object, which can be compared without following a pointer.
  const py::detail::PyArray_Proxy* fields = nullptr;
  const void *shape_at = nullptr, *strides_at = nullptr, *descr = nullptr;
  int flags = 0;

  // Whether an exact NumPy array has not changed. Reads one or two cache lines; viewing the array
  // reads five, and a step over many small arrays finds most of them cold.
  bool still(PyObject* array) const {
    return fields && array == object && Py_TYPE(array) == ndarray() && fields->data == data &&
           fields->dimensions == shape_at && fields->strides == strides_at &&
           fields->descr == descr && fields->flags == flags;
  }
  // A CuPy array keeps its memory as long as it lives, and the plan keeps its arrays alive.
  bool held(PyObject* array) const { return library == Library::cupy && array == object; }
  bool same_layout(const View& v) const {
    if (ndim != v.ndim || element != v.element || writable != v.writable ||
        cuda_device != v.cuda_device || library != v.library)
      return false;
    const int64_t* known = dims.data();
    for (int d = 0; d < ndim; ++d)
      if (known[d] != v.shape[d] || known[ndim + d] != v.stride(d)) return false;
    return true;
  }
  void remember(const Array& v) {
    object = v.object;
    data = v.data;
    element = v.element;
    library = v.library;
    writable = v.writable;
    ndim = v.ndim;
    cuda_device = v.cuda_device;
    dims.assign(v.shape, v.shape + v.ndim);
    for (int d = 0; d < v.ndim; ++d) dims.push_back(v.stride(d));
    remember_fields();
  }
  // The next step takes the array for one that has moved.
  void forget_place() {
    data = nullptr;
    fields = nullptr;
  }
  static const PyTypeObject* ndarray() { return py::detail::npy_api::get().PyArray_Type_; }
  void remember_fields() {
    fields = nullptr;
    if (Py_TYPE(object) != ndarray()) return;
    fields = py::detail::array_proxy(object);
    shape_at = fields->dimensions;
    strides_at = fields->strides;
    descr = fields->descr;
    flags = fields->flags;
  }
};

}  // namespace onepass::bind
