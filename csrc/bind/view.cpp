#include "bind/view.h"

#include <pybind11/numpy.h>

#include <cstring>
#include <string>
#include <vector>

#include "bind/dlpack.h"
#include "bind/target.h"

namespace onepass::bind {
namespace {

// ---- what a type offers

enum class Protocol : uint8_t { none, numpy, exchange, cupy, cuda_interface, dlpack };

struct TypeInfo {
  PyTypeObject* type;  // owned: the address must not be used again
  Protocol protocol;
  Library library;
  const dlpack::ExchangeApi* api;
};

const dlpack::ExchangeApi* exchange_api(PyTypeObject* type) {
  const py::handle handle(reinterpret_cast<PyObject*>(type));
  const py::object capsule = py::getattr(handle, "__dlpack_c_exchange_api__", py::none());
  if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return nullptr;
  auto* api = static_cast<const dlpack::ExchangeApi*>(
      PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  while (api && api->version.major != 1) api = api->previous;
  return api && api->view ? api : nullptr;
}

// By the package that defines the type or a base of it: nothing is imported to find out.
Library library_of(PyTypeObject* type) {
  for (const py::handle base : py::reinterpret_borrow<py::tuple>(type->tp_mro)) {
    const py::object module = py::getattr(base, "__module__", py::str());
    if (!py::isinstance<py::str>(module)) continue;
    const std::string name = py::cast<std::string>(module);
    const std::string package = name.substr(0, name.find('.'));
    if (package == "torch") return Library::torch;
    if (package == "jax" || package == "jaxlib") return Library::jax;
    if (package == "cupy") return Library::cupy;
  }
  return Library::other;
}

TypeInfo classify(PyTypeObject* type) {
  const py::handle handle(reinterpret_cast<PyObject*>(type));
  TypeInfo info{type, Protocol::none, library_of(type), nullptr};
  if (PyType_IsSubtype(type, py::detail::npy_api::get().PyArray_Type_)) {
    info.library = Library::numpy;
    // A masked array's data without its mask would be silently wrong.
    const bool masked = py::hasattr(handle, "mask") && py::hasattr(handle, "fill_value");
    info.protocol = masked ? Protocol::none : Protocol::numpy;
  } else if ((info.api = exchange_api(type))) {
    info.protocol = Protocol::exchange;
  } else if (info.library == Library::cupy) {
    info.protocol = Protocol::cupy;
  } else if (info.library == Library::other && py::hasattr(handle, "__cuda_array_interface__")) {
    info.protocol = Protocol::cuda_interface;  // the types of torch and JAX serve the CPU as well
  } else if (py::hasattr(handle, "__dlpack__") && py::hasattr(handle, "__dlpack_device__")) {
    info.protocol = Protocol::dlpack;
  }
  return info;
}

TypeInfo info_of(PyTypeObject* type) {
  constexpr size_t kMostTypes = 32;
  static std::vector<TypeInfo>& known = *new std::vector<TypeInfo>;
  for (const TypeInfo& info : known)
    if (info.type == type) return info;
  const TypeInfo info = classify(type);
  if (info.protocol != Protocol::none && known.size() < kMostTypes) {
    Py_INCREF(type);
    known.push_back(info);
  }
  return info;
}

// ---- NumPy

Element integer(bool is_signed, size_t bytes) {
  const Element first = is_signed ? Element::i8 : Element::u8;
  return Element(int(first) + (bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3));
}

Element numpy_element(const py::detail::PyArrayDescr_Proxy* descr) {
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
      return integer(descr->type_num == Api::NPY_BYTE_, 1);
    case Api::NPY_SHORT_:
    case Api::NPY_USHORT_:
      return integer(descr->type_num == Api::NPY_SHORT_, sizeof(short));
    case Api::NPY_INT_:
    case Api::NPY_UINT_:
      return integer(descr->type_num == Api::NPY_INT_, sizeof(int));
    case Api::NPY_LONG_:
    case Api::NPY_ULONG_:
      return integer(descr->type_num == Api::NPY_LONG_, sizeof(long));
    case Api::NPY_LONGLONG_:
    case Api::NPY_ULONGLONG_:
      return integer(descr->type_num == Api::NPY_LONGLONG_, sizeof(long long));
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
  out->element = numpy_element(py::detail::array_descriptor_proxy(array->descr));
  out->library = Library::numpy;
  out->writable = array->flags & Api::NPY_ARRAY_WRITEABLE_;
  out->c_order =
      (array->flags & Api::NPY_ARRAY_C_CONTIGUOUS_) && (array->flags & Api::NPY_ARRAY_ALIGNED_);
}

// ---- DLPack

Element dlpack_element(dlpack::DataType t) {
  if (t.lanes != 1 || t.bits % 8) return Element::other;
  switch (t.code) {
    case dlpack::kFloat:
      return t.bits == 32   ? Element::f32
             : t.bits == 64 ? Element::f64
             : t.bits == 16 ? Element::f16
                            : Element::other;
    case dlpack::kBFloat:
      return t.bits == 16 ? Element::bf16 : Element::other;
    case dlpack::kBool:
      return t.bits == 8 ? Element::boolean : Element::other;
    case dlpack::kInt:
    case dlpack::kUInt:
      return t.bits <= 64 ? integer(t.code == dlpack::kInt, t.bits / 8u) : Element::other;
    default:
      return Element::other;
  }
}

// Room for shape and strides that no object holds for us, kept alive by the View's owner.
int64_t* own_dimensions(View* out, int64_t count) {
  py::bytes room = py::reinterpret_steal<py::bytes>(
      PyBytes_FromStringAndSize(nullptr, py::ssize_t(count) * py::ssize_t(sizeof(int64_t))));
  if (!room) throw py::error_already_set();
  auto* at = reinterpret_cast<int64_t*>(PyBytes_AS_STRING(room.ptr()));
  out->owner = out->owner ? py::object(py::make_tuple(out->owner, room)) : py::object(room);
  return at;
}

void dense_strides(View* out) {
  int64_t* strides = own_dimensions(out, out->ndim);
  uint64_t next = 1;  // may overflow: plausible() has not looked at the shape yet
  for (int d = out->ndim - 1; d >= 0; next *= uint64_t(out->shape[d]), --d)
    strides[d] = int64_t(next);
  out->strides = strides;
}

bool is_cpu(dlpack::DeviceType type) { return type == dlpack::kCpu || type == dlpack::kCudaHost; }
bool is_cuda(dlpack::DeviceType type) {
  return type == dlpack::kCuda || type == dlpack::kCudaManaged;
}

ViewError from_dlpack(const dlpack::Tensor& t, bool writable, View* out) {
  if (!is_cpu(t.device.type) && !is_cuda(t.device.type)) return ViewError::device;
  out->cuda_device = is_cuda(t.device.type) ? t.device.id : -1;
  out->data = static_cast<char*>(t.data) + t.byte_offset;
  out->ndim = t.ndim;
  out->shape = t.shape;
  out->strides = t.strides;
  out->element = dlpack_element(t.dtype);
  out->stride_unit = t.dtype.bits / 8;
  out->writable = writable;
  if (!t.strides && t.shape && t.ndim > 0 && t.ndim <= kMaxAxes) dense_strides(out);
  return ViewError::none;
}

// torch's lazy negation is a bit that no protocol carries: the values would have the wrong sign.
bool is_negated(PyObject* object) {
  static PyObject* name = PyUnicode_InternFromString("is_neg");
  PyObject* result = PyObject_CallMethodNoArgs(object, name);
  if (!result) throw py::error_already_set();
  const bool negated = result == Py_True;
  Py_DECREF(result);
  return negated;
}

ViewError view_exchange(PyObject* object, const TypeInfo& info, bool ask_negated, View* out) {
  dlpack::Tensor tensor;
  if (info.api->view(object, &tensor) != 0) throw py::error_already_set();
  if (ask_negated && info.library == Library::torch && is_negated(object))
    return ViewError::negated;
  return from_dlpack(tensor, true, out);
}

// stream_of says on which stream a call will look for the work of other libraries: torch's is its
// own, everybody else is told to order the legacy default stream after it.
py::object dlpack_capsule(py::object object, Library library, bool cuda) {
  constexpr int kAsItIs = -1, kLegacyStream = 1;
  py::dict options;
  if (cuda) options["stream"] = library == Library::torch ? kAsItIs : kLegacyStream;
  const py::object method = object.attr("__dlpack__");
  try {
    return method(py::arg("max_version") = py::make_tuple(1, 0), **options);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;  // else: a producer older than DLPack 1.0
  }
  return method(**options);
}

// False: what the object says of its device is no pair of integers.
bool dlpack_device(py::handle object, std::pair<int32_t, int32_t>* place) {
  const py::object said = object.attr("__dlpack_device__")();
  try {
    *place = py::cast<std::pair<int32_t, int32_t>>(said);
    return true;
  } catch (const py::cast_error&) {
    return false;
  }
}

ViewError view_dlpack(PyObject* object, const TypeInfo& info, View* out) {
  py::object source = py::reinterpret_borrow<py::object>(object);
  std::pair<int32_t, int32_t> place;
  if (!dlpack_device(source, &place)) return ViewError::malformed;
  const auto type = dlpack::DeviceType(place.first);
  if (!is_cpu(type) && !is_cuda(type)) return ViewError::device;
  out->cuda_device = is_cuda(type) ? place.second : -1;
  if (is_cuda(type) && !cuda_backend()) {
    out->described = false;
    return ViewError::none;
  }
  if (info.library == Library::torch) {
    if (is_negated(object)) return ViewError::negated;
    source = source.attr("detach")();  // torch exports no tensor that requires a gradient
  }
  const py::object capsule = dlpack_capsule(source, info.library, is_cuda(type));
  const dlpack::Tensor* tensor = nullptr;
  bool writable = info.library != Library::jax;
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    auto* managed = static_cast<dlpack::ManagedTensorVersioned*>(
        PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major != 1) return ViewError::not_an_array;
    writable = writable && !(managed->flags & dlpack::kReadOnly);
    tensor = &managed->tensor;
  } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor")) {
    tensor = &static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"))
                  ->tensor;
  } else {
    return ViewError::not_an_array;
  }
  out->owner = capsule;  // not renamed, so its destructor still frees the tensor
  return from_dlpack(*tensor, writable, out);
}

// ---- CuPy

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

// Attributes of C++ speed; the dict of __cuda_array_interface__ takes several times as long and
// does not say which device it is.
void view_cupy(PyObject* object, View* out) {
  static PyObject* const names[] = {
      PyUnicode_InternFromString("data"),      PyUnicode_InternFromString("ptr"),
      PyUnicode_InternFromString("device_id"), PyUnicode_InternFromString("shape"),
      PyUnicode_InternFromString("strides"),   PyUnicode_InternFromString("dtype")};
  const py::object data = attribute(object, names[0]), shape = attribute(object, names[3]);
  const py::object dtype = attribute(object, names[5]);
  out->data = reinterpret_cast<void*>(uintptr_t(as_int64(attribute(data.ptr(), names[1]))));
  out->cuda_device = int32_t(as_int64(attribute(data.ptr(), names[2])));
  if (PyObject_TypeCheck(dtype.ptr(), py::detail::npy_api::get().PyArrayDescr_Type_))
    out->element = numpy_element(py::detail::array_descriptor_proxy(dtype.ptr()));
  out->ndim = int32_t(py::len(shape));
  int64_t* dims = own_dimensions(out, 2 * out->ndim);
  copy_integers(shape, dims);
  copy_integers(attribute(object, names[4]), dims + out->ndim);
  out->shape = dims;
  out->strides = dims + out->ndim;
}

// ---- __cuda_array_interface__

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
      return integer(text[1] == 'i', bytes);
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

// The interface does not say which device it is. Where the object has no other way to tell, it is
// the current one.
int32_t device_of(PyObject* object, const Backend& backend) {
  const py::handle handle(object);
  std::pair<int32_t, int32_t> place;
  if (py::hasattr(handle, "__dlpack_device__") && dlpack_device(handle, &place))
    return place.second;
  const int current = backend.use_device(0);
  backend.use_device(current);
  return current;
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

// A producer is another library, and its word decides which memory is touched.
bool plausible(const View& v) {
  if (v.ndim < 0 || v.ndim > kMaxAxes || (v.ndim > 0 && (!v.shape || !v.strides))) return false;
  int64_t size = 1, bytes = 0;
  bool empty = false;
  for (int d = 0; d < v.ndim; ++d) {
    if (v.shape[d] < 0) return false;
    empty = empty || v.shape[d] == 0;
  }
  if (empty) return true;
  for (int d = 0; d < v.ndim; ++d)
    if (__builtin_mul_overflow(size, v.shape[d], &size)) return false;
  return v.data && !__builtin_mul_overflow(size, v.itemsize(), &bytes);
}

bool dense(const View& v) {
  const int64_t item = v.itemsize();
  if (item == 0 || reinterpret_cast<uintptr_t>(v.data) % uintptr_t(item)) return v.size() == 0;
  int64_t next = item;
  bool in_order = true;
  for (int d = v.ndim - 1; d >= 0; --d) {
    if (v.shape[d] == 0) return true;
    in_order = in_order && (v.shape[d] == 1 || v.stride(d) == next);
    next *= v.shape[d];
  }
  return in_order;
}

// The interface of CUDA arrays is the object's, not its type's: a type that serves the CPU too has
// it in some of its objects only, and an object may have it alone.
ViewError view_by_attributes(PyObject* object, const TypeInfo& info, View* out) {
  if (info.library != Library::other) return ViewError::not_an_array;
  static PyObject* const interface = PyUnicode_InternFromString("__cuda_array_interface__");
  const auto facts = py::reinterpret_steal<py::object>(PyObject_GetAttr(object, interface));
  if (facts) {
    if (!PyDict_Check(facts.ptr())) return ViewError::malformed;
    view_cuda_interface(object, facts, out);
    return ViewError::none;
  }
  if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw py::error_already_set();
  PyErr_Clear();
  if (py::hasattr(object, "__dlpack__") && py::hasattr(object, "__dlpack_device__"))
    return view_dlpack(object, info, out);
  return ViewError::not_an_array;
}

ViewError read(PyObject* object, const TypeInfo& info, bool ask_negated, View* out) {
  switch (info.protocol) {
    case Protocol::numpy:
      view_numpy(object, out);
      return ViewError::none;
    case Protocol::exchange:
      return view_exchange(object, info, ask_negated, out);
    case Protocol::cupy:
      view_cupy(object, out);
      return ViewError::none;
    case Protocol::dlpack:
      return view_dlpack(object, info, out);
    case Protocol::cuda_interface:
    case Protocol::none:
      return view_by_attributes(object, info, out);
  }
  return ViewError::not_an_array;
}

}  // namespace

ViewError view(PyObject* object, View* out, bool ask_negated) {
  const TypeInfo info = info_of(Py_TYPE(object));
  out->library = info.library;
  const ViewError error = read(object, info, ask_negated, out);
  if (error == ViewError::none && info.library != Library::numpy && out->described &&
      !plausible(*out))
    return ViewError::malformed;
  if (error == ViewError::none && !out->c_order) out->c_order = dense(*out);
  return error;
}

void* stream_of(PyObject* object, int32_t cuda_device) {
  const TypeInfo info = info_of(Py_TYPE(object));
  if (info.api) {
    void* stream = nullptr;
    if (info.api->current_work_stream(dlpack::kCuda, cuda_device, &stream) != 0)
      throw py::error_already_set();
    return stream;
  }
  static PyObject* const current_stream =
      py::object(py::module_::import("onepass._array").attr("current_stream")).release().ptr();
  const py::object stream =
      py::reinterpret_borrow<py::object>(current_stream)(py::handle(object), cuda_device);
  return reinterpret_cast<void*>(py::cast<uintptr_t>(stream));
}

}  // namespace onepass::bind
