// NumPy arrays: their struct is read, without a call of Python.
#include <pybind11/numpy.h>

#include <cstring>

#include "bind/protocols.h"

namespace onepass::bind {

static Element element_of(const py::detail::PyArrayDescr_Proxy* descr) {
  using Api = py::detail::npy_api;
  constexpr int kHalf = 23;
  if (descr->byteorder == (PY_LITTLE_ENDIAN ? '>' : '<')) return Element::other;
  switch (descr->type_num) {
    case Api::NPY_FLOAT_:
      return Element::f32;
    case Api::NPY_DOUBLE_:
      return Element::f64;
    case kHalf:
      return Element::f16;
    case Api::NPY_BOOL_:
      return Element::boolean;
    case Api::NPY_BYTE_:
    case Api::NPY_UBYTE_:
      return integer_element(descr->type_num == Api::NPY_BYTE_, 1);
    case Api::NPY_SHORT_:
    case Api::NPY_USHORT_:
      return integer_element(descr->type_num == Api::NPY_SHORT_, sizeof(short));
    case Api::NPY_INT_:
    case Api::NPY_UINT_:
      return integer_element(descr->type_num == Api::NPY_INT_, sizeof(int));
    case Api::NPY_LONG_:
    case Api::NPY_ULONG_:
      return integer_element(descr->type_num == Api::NPY_LONG_, sizeof(long));
    case Api::NPY_LONGLONG_:
    case Api::NPY_ULONGLONG_:
      return integer_element(descr->type_num == Api::NPY_LONGLONG_, sizeof(long long));
    default:
      break;
  }
  constexpr int kFirstUserType = 256;
  if (descr->type_num < kFirstUserType) return Element::other;
  const char* name = reinterpret_cast<PyTypeObject*>(descr->typeobj)->tp_name;
  const char* dot = std::strrchr(name, '.');
  return std::strcmp(dot ? dot + 1 : name, "bfloat16") == 0 ? Element::bf16 : Element::other;
}

void view_numpy(PyObject* object, View* out) {
  using Api = py::detail::npy_api;
  static_assert(sizeof(py::ssize_t) == sizeof(int64_t), "a 64-bit platform");
  const auto* array = py::detail::array_proxy(object);
  out->data = array->data;
  out->ndim = array->nd;
  out->shape = reinterpret_cast<const int64_t*>(array->dimensions);
  out->strides = reinterpret_cast<const int64_t*>(array->strides);
  out->element = element_of(py::detail::array_descriptor_proxy(array->descr));
  out->library = Library::numpy;
  out->writable = array->flags & Api::NPY_ARRAY_WRITEABLE_;
  out->c_order =
      (array->flags & Api::NPY_ARRAY_C_CONTIGUOUS_) && (array->flags & Api::NPY_ARRAY_ALIGNED_);
}

bool is_numpy_dtype(PyObject* object) {
  return PyObject_TypeCheck(object, py::detail::npy_api::get().PyArrayDescr_Type_);
}

Element numpy_element(PyObject* dtype) {
  return element_of(py::detail::array_descriptor_proxy(dtype));
}

}  // namespace onepass::bind
