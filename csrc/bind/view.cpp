// Which protocol a type offers, remembered per type; then the reader of that protocol.
#include "bind/view.h"

#include <pybind11/numpy.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "bind/kept.h"
#include "bind/protocols.h"

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

// The types that have been seen. Readers take no lock: entries below the count never change.
constexpr size_t kMostTypes = 32;
TypeInfo known_types[kMostTypes];
std::atomic<size_t> known_count{0};
std::atomic_flag adding = ATOMIC_FLAG_INIT;  // no lock, which a forked child might find taken

const TypeInfo* known_type(PyTypeObject* type) {
  const size_t count = known_count.load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i)
    if (known_types[i].type == type) return &known_types[i];
  return nullptr;
}

TypeInfo info_of(PyTypeObject* type) {
  if (const TypeInfo* known = known_type(type)) return *known;
  const TypeInfo info = classify(type);
  if (info.protocol == Protocol::none) return info;
  if (adding.test_and_set(std::memory_order_acquire)) return info;  // another time
  const size_t count = known_count.load(std::memory_order_relaxed);
  if (count < kMostTypes && !known_type(type)) {
    Py_INCREF(type);
    known_types[count] = info;
    known_count.store(count + 1, std::memory_order_release);
  }
  adding.clear(std::memory_order_release);
  return info;
}

// Another library described this memory, and the kernels will touch it: refuse what cannot be.
bool plausible(const View& v) {
  if (v.ndim < 0 || v.ndim > kMaxAxes || (v.ndim > 0 && (!v.shape || !v.strides))) return false;
  int64_t size = 1, bytes = 0;  // without the extents of 0, as NumPy counts
  bool empty = false;
  for (int d = 0; d < v.ndim; ++d) {
    if (v.shape[d] < 0) return false;
    if (v.shape[d] == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(size, v.shape[d], &size)) {
      return false;
    }
  }
  if (empty) return !__builtin_mul_overflow(size, v.itemsize(), &bytes);
  int64_t reach = 0;  // bytes between the first element and the farthest, either way
  for (int d = 0; d < v.ndim; ++d) {
    int64_t step = 0;
    if (v.shape[d] == 1) continue;
    if (__builtin_mul_overflow(v.strides[d], v.stride_unit, &step) ||
        __builtin_mul_overflow(step, v.shape[d] - 1, &step) || step == INT64_MIN ||
        __builtin_add_overflow(reach, step < 0 ? -step : step, &reach))
      return false;
  }
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

// An object, not its type, has the interface of CUDA arrays: a type that serves the CPU too has it
// in some of its objects only, and one object may have it alone.
ViewError view_by_attributes(PyObject* object, const TypeInfo& info, View* out) {
  if (info.library != Library::other) return ViewError::not_an_array;
  static Name interface("__cuda_array_interface__");
  const auto facts = py::reinterpret_steal<py::object>(PyObject_GetAttr(object, interface.get()));
  if (facts) {
    if (!PyDict_Check(facts.ptr())) return ViewError::malformed;
    view_cuda_interface(object, facts, out);
    return ViewError::none;
  }
  if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw py::error_already_set();
  PyErr_Clear();
  if (py::hasattr(object, "__dlpack__") && py::hasattr(object, "__dlpack_device__"))
    return view_dlpack(object, out);
  return ViewError::not_an_array;
}

ViewError read(PyObject* object, const TypeInfo& info, bool ask_negated, View* out) {
  switch (info.protocol) {
    case Protocol::numpy:
      view_numpy(object, out);
      return ViewError::none;
    case Protocol::exchange:
      return view_exchange(object, *info.api, ask_negated, out);
    case Protocol::cupy:
      view_cupy(object, out);
      return ViewError::none;
    case Protocol::dlpack:
      return view_dlpack(object, out);
    case Protocol::cuda_interface:
    case Protocol::none:
      return view_by_attributes(object, info, out);
  }
  return ViewError::not_an_array;
}

}  // namespace

// ---- for the readers

Element integer_element(bool is_signed, size_t bytes) {
  const Element first = is_signed ? Element::i8 : Element::u8;
  return Element(int(first) + (bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3));
}

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

// ---- reading

py::object new_tensor(PyObject* like, Element element, const int64_t* shape, int32_t ndim) {
  const TypeInfo info = info_of(Py_TYPE(like));
  if (info.library != Library::torch || info.protocol != Protocol::exchange) return {};
  return allocate(*info.api, element, shape, ndim);
}

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
  static Kept function;
  PyObject* const current_stream = function.get([] {
    return py::object(py::module_::import("onepass._cuda_memory").attr("current_stream"));
  });
  const py::object stream =
      py::reinterpret_borrow<py::object>(current_stream)(py::handle(object), cuda_device);
  return reinterpret_cast<void*>(py::cast<uintptr_t>(stream));
}

}  // namespace onepass::bind
