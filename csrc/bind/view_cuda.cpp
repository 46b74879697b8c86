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

// As the producer's own error, to which the border adds whose argument it was.
[[noreturn]] void refuse(const std::string& why) {
  PyErr_SetString(PyExc_ValueError, why.c_str());
  throw py::error_already_set();
}

int64_t as_int64(const py::object& value) {
  const long long number = PyLong_AsLongLong(value.ptr());
  if (number == -1 && PyErr_Occurred()) throw py::error_already_set();
  return number;
}

void* as_pointer(const py::object& value) {
  const unsigned long long number = PyLong_AsUnsignedLongLong(value.ptr());
  if (PyErr_Occurred()) throw py::error_already_set();
  return reinterpret_cast<void*>(uintptr_t(number));
}

int32_t as_device(const py::object& value) {
  const int64_t number = as_int64(value);
  if (number < 0 || number > INT32_MAX) refuse("its device is " + std::to_string(number));
  return int32_t(number);
}

// What another library says of its axes; without strides it is dense. Those are in bytes.
void take_axes(const py::tuple& shape, const py::object& strides, View* out) {
  out->ndim = int32_t(shape.size());
  int64_t* at = own_dimensions(out, 2 * out->ndim);
  const auto take = [&at](const py::tuple& values) {
    for (const py::handle value : values)
      *at++ = as_int64(py::reinterpret_borrow<py::object>(value));
  };
  out->shape = at;
  take(shape);
  if (strides.is_none()) {
    out->stride_unit = out->itemsize();
    return dense_strides(out);
  }
  const py::tuple steps = strides;
  if (steps.size() != shape.size())
    refuse("it has " + std::to_string(shape.size()) + " axes and " + std::to_string(steps.size()) +
           " strides");
  out->strides = at;
  take(steps);
}

py::object fact(const py::dict& facts, const char* name) {
  if (!facts.contains(name))
    refuse(std::string("its __cuda_array_interface__ lacks '") + name + "'");
  return facts[name];
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
  return backend.current_device();
}

}  // namespace

// CuPy's attributes are compiled; the dict of __cuda_array_interface__ takes several times as long
// and does not name the device.
void view_cupy(PyObject* object, View* out) {
  static Name data_name("data"), ptr("ptr"), device_id("device_id"), shape_name("shape"),
      strides("strides"), dtype_name("dtype");
  const py::object data = attribute(object, data_name.get());
  const py::tuple shape = attribute(object, shape_name.get());
  const py::object dtype = attribute(object, dtype_name.get());
  out->data = as_pointer(attribute(data.ptr(), ptr.get()));
  out->cuda_device = as_device(attribute(data.ptr(), device_id.get()));
  if (is_numpy_dtype(dtype.ptr())) out->element = numpy_element(dtype.ptr());
  take_axes(shape, attribute(object, strides.get()), out);
}

void view_cuda_interface(PyObject* object, const py::dict& facts, View* out) {
  const Backend* backend = cuda_backend();
  if (!backend) {
    out->cuda_device = 0;
    out->described = false;
    return;
  }
  out->cuda_device = device_of(object, *backend);
  const py::tuple shape = fact(facts, "shape"), data = fact(facts, "data");
  out->data = as_pointer(data[0]);
  out->writable = !py::cast<bool>(data[1]);
  out->element = typestr_element(py::cast<std::string>(py::str(fact(facts, "typestr"))));
  if (out->element == Element::other && is_named_bfloat16(object)) out->element = Element::bf16;
  take_axes(shape, facts.contains("strides") ? fact(facts, "strides") : py::none(), out);
}

}  // namespace onepass::bind
