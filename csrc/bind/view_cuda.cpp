// Arrays on a CUDA device without DLPack's table: CuPy's attributes, __cuda_array_interface__.
#include <string>

#include "bind/cuda_backend.h"
#include "bind/kept.h"
#include "bind/protocols.h"

namespace onepass::bind {
namespace {

py::object attribute(PyObject* object, PyObject* name) {
  PyObject* value = PyObject_GetAttr(object, name);
  if (!value) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(value);
}

int64_t as_int64(const py::object& value) {
  const long long number = PyLong_AsLongLong(value.ptr());
  if (number == -1 && PyErr_Occurred()) throw py::error_already_set();
  return number;
}

void copy_integers(const py::object& sequence, int64_t* to) {
  const py::tuple values = sequence;
  for (size_t i = 0; i < values.size(); ++i) to[i] = as_int64(py::object(values[i]));
}

Element typestr_element(const std::string& text) {
  if (text.size() != 3 || text[0] == (PY_LITTLE_ENDIAN ? '>' : '<')) return Element::other;
  const size_t bytes = size_t(text[2] - '0');
  switch (text[1]) {
    case 'f':
      return bytes == 4   ? Element::f32
             : bytes == 8 ? Element::f64
             : bytes == 2 ? Element::f16
                          : Element::other;
    case 'i':
    case 'u':
      return integer_element(text[1] == 'i', bytes);
    case 'b':
      return Element::boolean;
    default:
      return Element::other;
  }
}

// bfloat16 has no typestr: by the dtype's name.
bool is_named_bfloat16(PyObject* object) {
  const py::object dtype = py::getattr(object, "dtype", py::none());
  return py::cast<std::string>(py::str(dtype)) == "bfloat16";
}

// The interface does not name the device. If the object cannot tell otherwise, it is the current
// one.
int32_t device_of(PyObject* object, const Backend& backend) {
  const py::handle handle(object);
  std::pair<int32_t, int32_t> place;
  if (py::hasattr(handle, "__dlpack_device__") && dlpack_device(handle, &place))
    return place.second;
  const int current = backend.use_device(0);
  backend.use_device(current);
  return current;
}

}  // namespace

// CuPy's attributes are compiled; the dict of __cuda_array_interface__ takes several times as long
// and does not name the device.
void view_cupy(PyObject* object, View* out) {
  static Name data_name("data"), ptr("ptr"), device_id("device_id"), shape_name("shape"),
      strides("strides"), dtype_name("dtype");
  const py::object data = attribute(object, data_name.get());
  const py::object shape = attribute(object, shape_name.get());
  const py::object dtype = attribute(object, dtype_name.get());
  out->data = reinterpret_cast<void*>(uintptr_t(as_int64(attribute(data.ptr(), ptr.get()))));
  out->cuda_device = int32_t(as_int64(attribute(data.ptr(), device_id.get())));
  if (is_numpy_dtype(dtype.ptr())) out->element = numpy_element(dtype.ptr());
  out->ndim = int32_t(py::len(shape));
  int64_t* dims = own_dimensions(out, 2 * out->ndim);
  copy_integers(shape, dims);
  copy_integers(attribute(object, strides.get()), dims + out->ndim);
  out->shape = dims;
  out->strides = dims + out->ndim;
}

void view_cuda_interface(PyObject* object, const py::dict& facts, View* out) {
  const Backend* backend = cuda_backend();
  if (!backend) {
    out->cuda_device = 0;
    out->described = false;
    return;
  }
  out->cuda_device = device_of(object, *backend);
  const py::tuple shape = facts["shape"], data = facts["data"];
  const py::object strides =
      facts.contains("strides") ? py::object(facts["strides"]) : py::object(py::none());
  out->data = reinterpret_cast<void*>(py::cast<uintptr_t>(data[0]));
  out->writable = !py::cast<bool>(data[1]);
  out->element = typestr_element(py::cast<std::string>(facts["typestr"]));
  if (out->element == Element::other && is_named_bfloat16(object)) out->element = Element::bf16;
  out->ndim = int32_t(shape.size());
  int64_t* at = own_dimensions(out, 2 * out->ndim);
  for (int d = 0; d < out->ndim; ++d) at[d] = py::cast<int64_t>(shape[size_t(d)]);
  out->shape = at;
  if (strides.is_none()) {
    out->stride_unit = out->itemsize();
    return dense_strides(out);
  }
  const py::tuple steps = strides;
  for (int d = 0; d < out->ndim; ++d) at[out->ndim + d] = py::cast<int64_t>(steps[size_t(d)]);
  out->strides = at + out->ndim;
}

}  // namespace onepass::bind
