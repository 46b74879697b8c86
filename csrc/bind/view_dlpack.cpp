// DLPack: the exchange table of C functions, and the capsules of __dlpack__.
#include <string>

#include "bind/cuda_backend.h"
#include "bind/kept.h"
#include "bind/protocols.h"

namespace onepass::bind {
namespace {

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
      return t.bits <= 64 ? integer_element(t.code == dlpack::kInt, t.bits / 8u) : Element::other;
    default:
      return Element::other;
  }
}

bool is_cpu(dlpack::DeviceType type) { return type == dlpack::kCpu || type == dlpack::kCudaHost; }
bool is_cuda(dlpack::DeviceType type) {
  return type == dlpack::kCuda || type == dlpack::kCudaManaged;
}

ViewError from_dlpack(const dlpack::Tensor& t, bool writable, View* out) {
  if (!is_cpu(t.device.type) && !is_cuda(t.device.type)) return ViewError::device;
  out->cuda_device = is_cuda(t.device.type) ? t.device.id : -1;
  out->data = t.data ? static_cast<char*>(t.data) + t.byte_offset : nullptr;
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
  static Name name("is_neg");
  PyObject* result = PyObject_CallMethodNoArgs(object, name.get());
  if (!result) throw py::error_already_set();
  const bool negated = result == Py_True;
  Py_DECREF(result);
  return negated;
}

// Asks for the stream that stream_of answers for the library: torch's own as it is; every other
// library orders the legacy default stream after its work.
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

}  // namespace

const dlpack::ExchangeApi* exchange_api(PyTypeObject* type) {
  const py::handle handle(reinterpret_cast<PyObject*>(type));
  const py::object capsule = py::getattr(handle, "__dlpack_c_exchange_api__", py::none());
  if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return nullptr;
  auto* api = static_cast<const dlpack::ExchangeApi*>(
      PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  while (api && api->version.major != 1) api = api->previous;
  return api && api->view ? api : nullptr;
}

ViewError view_exchange(PyObject* object, const dlpack::ExchangeApi& api, bool ask_negated,
                        View* out) {
  dlpack::Tensor tensor;
  if (api.view(object, &tensor) != 0) throw py::error_already_set();
  if (ask_negated && out->library == Library::torch && is_negated(object))
    return ViewError::negated;
  return from_dlpack(tensor, true, out);
}

py::object allocate(const dlpack::ExchangeApi& api, Element element, const int64_t* shape,
                    int32_t ndim) {
  if (!api.allocate || !api.to_object || element > Element::bf16) return {};
  const auto code = element == Element::bf16 ? dlpack::kBFloat : dlpack::kFloat;
  dlpack::Tensor prototype{};
  prototype.device = {dlpack::kCpu, 0};
  prototype.ndim = ndim;
  prototype.dtype = {uint8_t(code), uint8_t(8 * kItemSize[int(element)]), 1};
  prototype.shape = const_cast<int64_t*>(shape);  // read alone
  dlpack::ManagedTensorVersioned* managed = nullptr;
  void* made = nullptr;
  const auto ignore = [](void*, const char*, const char*) {};
  if (api.allocate(&prototype, &managed, nullptr, ignore) != 0 ||
      api.to_object(managed, &made) != 0) {
    PyErr_Clear();
    return {};  // the library's own function says why there is no memory
  }
  return py::reinterpret_steal<py::object>(static_cast<PyObject*>(made));
}
bool dlpack_device(py::handle object, std::pair<int32_t, int32_t>* place) {
  const py::object said = object.attr("__dlpack_device__")();
  try {
    *place = py::cast<std::pair<int32_t, int32_t>>(said);
    return true;
  } catch (const py::cast_error&) {
    return false;
  }
}

ViewError view_dlpack(PyObject* object, View* out) {
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
  // XLA gives memory to its next computation as soon as nobody holds the array, and its streams do
  // not wait for ours; a call returns before its kernel has read.
  if (is_cuda(type) && out->library == Library::jax) return ViewError::not_held;
  if (out->library == Library::torch) {
    if (is_negated(object)) return ViewError::negated;
    source = source.attr("detach")();  // torch exports no tensor that requires a gradient
  }
  const py::object capsule = dlpack_capsule(source, out->library, is_cuda(type));
  const dlpack::Tensor* tensor = nullptr;
  bool writable = out->library != Library::jax;
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    auto* managed = static_cast<dlpack::ManagedTensorVersioned*>(
        PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major != 1) return ViewError::not_an_array;
    writable = writable && !(managed->flags & (dlpack::kReadOnly | dlpack::kIsCopied));
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

}  // namespace onepass::bind
