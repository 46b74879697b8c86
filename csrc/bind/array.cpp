#include "bind/array.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "cpu/dispatch.h"

namespace onepass::bind {

std::string Array::label() const {
  return index < 0 ? "'" + std::string(name) + "'"
                   : "'" + std::string(name) + "[" + std::to_string(index) + "]'";
}

std::string dtype_text(const Array& a) {
  constexpr const char* kNames[] = {"float32", "float64", "float16", "bfloat16", "int8",
                                    "int16",   "int32",   "int64",   "uint8",    "uint16",
                                    "uint32",  "uint64",  "bool",    "unknown"};
  const py::object dtype = py::getattr(a.object, "dtype", py::none());
  if (dtype.is_none()) return kNames[int(a.element)];  // of a producer of DLPack
  std::string text = py::cast<std::string>(py::str(dtype));
  if (text == ">f4" || text == ">f8" || text == ">f2") text += " (big-endian)";
  return text;
}

// If a library refuses to export its memory (of a sparse tensor, say), the error gives its reason.
static ViewError view_or_explain(Array* a) {
  try {
    return view(a->object, a);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw;
    const std::string why = py::cast<std::string>(py::str(error.value()));
    type_error(a->op, a->label() + " of type " + Py_TYPE(a->object)->tp_name +
                          " cannot be read: " + why.substr(0, why.find('\n')));
  }
}

void open(Array* a, const char* op, const char* name, PyObject* object, int64_t index) {
  a->op = op;
  a->name = name;
  a->index = index;
  a->object = object;
  switch (view_or_explain(a)) {
    case ViewError::none:
      break;
    case ViewError::not_an_array:
      type_error(op,
                 a->label() + " is " +
                     (object == Py_None ? "None" : "a " + std::string(Py_TYPE(object)->tp_name)) +
                     ", expected an array: NumPy, CuPy, PyTorch, or anything with "
                     "__cuda_array_interface__ or __dlpack__" +
                     (PyList_Check(object) || PyTuple_Check(object) ? "; use numpy.asarray"
                      : a->library == Library::jax ? "; inside jax.jit use onepass.jax"
                                                   : ""));
    case ViewError::device:
      type_error(op, a->label() + " lies on a device that is neither CPU nor CUDA; move it to one");
    case ViewError::negated:
      type_error(op, a->label() + " is a lazily negated torch tensor; pass x.resolve_neg()");
    case ViewError::not_held:
      type_error(op, a->label() +
                         " is a JAX array on a CUDA device, whose memory XLA may give to "
                         "another computation while the kernel reads it, expected one on "
                         "the CPU, or an array of CuPy or PyTorch: numpy.asarray(x), or "
                         "y = torch.from_dlpack(x), held until the stream is synchronised");
    case ViewError::malformed:
      type_error(op, a->label() + " of type " + Py_TYPE(object)->tp_name +
                         " describes memory that cannot be: null, of negative or overflowing size, "
                         "or of more than 64 dimensions");
  }
}

void open_optional(Array* a, const char* op, const char* name, PyObject* object) {
  if (object != Py_None) open(a, op, name, object);
}

static std::string device_text(int cuda_device) {
  return cuda_device < 0 ? "the CPU" : "CUDA device " + std::to_string(cuda_device);
}

// The first array there is.
static const Array* check_together(const Array* arrays, int count) {
  const Array* first = nullptr;
  for (int i = 0; i < count; ++i) {
    const Array& a = arrays[i];
    if (!a) continue;
    if (!first) first = &a;
    if (a.cuda_device != first->cuda_device)
      type_error(a.op, a.label() + " lies on " + device_text(a.cuda_device) + " but " +
                           first->label() + " on " + device_text(first->cuda_device) +
                           "; move them to one device");
  }
  return first;
}

void check_one_device(const Array* arrays, int count) {
  const Array* first = check_together(arrays, count);
  if (first && first->cuda_device >= 0) require_cuda(first->op, first->name);
}

Target check_device(const Array* arrays, int count) {
  const Array* first = check_together(arrays, count);
  if (!first || first->cuda_device < 0) return {&cpu_backend()};
  Target target{&require_cuda(first->op, first->name),        first->op,     first->cuda_device,
                stream_of(first->object, first->cuda_device), first->object, first->library};
  for (int i = 0; i < count; ++i)
    if (arrays[i] && &arrays[i] != first) add_stream(&target, arrays[i]);
  check_labels(target);
  return target;
}

void add_stream(Target* target, const Array& a) {
  if (a.library == target->library && a.library != Library::other) return;
  void* stream = stream_of(a.object, a.cuda_device);
  auto& others = target->others;
  if (stream != target->stream && std::find(others.begin(), others.end(), stream) == others.end())
    others.push_back(stream);
}

DType computing_type(DType t) { return t == DType::f64 ? DType::f64 : DType::f32; }

void check_floating(const Array& a) {
  if (!a.floating())
    type_error(a.op, a.label() + " has dtype " + dtype_text(a) +
                         ", expected float32, float64, float16 or bfloat16; convert it with astype "
                         "(torch: to)");
}

void check_dtype_like(const Array& a, const Array& like) {
  if (a.element != like.element)
    type_error(a.op, a.label() + " has dtype " + dtype_text(a) + ", expected " + dtype_text(like) +
                         " like " + like.label());
}

static const char* computing_name(const Array& like) {
  return computing_type(like.dtype()) == DType::f64 ? "float64" : "float32";
}

void check_parameter_dtype(const Array& a, const Array& like) {
  if (a.element == like.element) return;
  const Element wanted = Element(computing_type(like.dtype()));
  if (a.element == wanted) return;
  type_error(a.op, a.label() + " has dtype " + dtype_text(a) + ", expected " +
                       computing_name(like) +
                       (wanted == like.element ? "" : " or " + dtype_text(like)) + " for " +
                       like.label() + " of " + dtype_text(like));
}

void check_computing_dtype(const Array& a, const Array& like) {
  if (a.element != Element(computing_type(like.dtype())))
    type_error(a.op,
               a.label() + " has dtype " + dtype_text(a) + ", expected " + computing_name(like));
}

void check_wide_dtype(const Array& a) {
  if (a.element != Element::f64)
    type_error(a.op, a.label() + " has dtype " + dtype_text(a) + ", expected float64");
}

void check_compatible_dtype(const Array& a, const Array& like) {
  const DType computing = computing_type(like.dtype());
  if (computing_type(a.dtype()) != computing)
    type_error(a.op, a.label() + " has dtype " + dtype_text(a) + ", expected " +
                         (computing == DType::f64 ? "float64" : "float32, float16 or bfloat16") +
                         " for " + like.label() + " of " + dtype_text(like));
}

void check_shape_like(const Array& a, const Array& like, const char* cure) {
  if (a.ndim == like.ndim && std::equal(a.shape, a.shape + a.ndim, like.shape)) return;
  value_error(a.op, a.label() + " has shape " + shape_text(a) + ", expected " + shape_text(like) +
                        " like " + like.label() + cure);
}

void check_broadcast(const Array& a, const Array& like) {
  bool fits = a.ndim <= like.ndim;
  for (int d = 0; fits && d < a.ndim; ++d) {
    const int64_t extent = a.shape[a.ndim - 1 - d];
    fits = extent == 1 || extent == like.shape[like.ndim - 1 - d];
  }
  if (!fits)
    value_error(a.op, a.label() + " has shape " + shape_text(a) +
                          ", expected one that broadcasts to " + shape_text(like) + " of " +
                          like.label());
}

void check_shape(const Array& a, const int64_t* shape, int ndim, const char* why) {
  if (a.ndim == ndim && std::equal(shape, shape + ndim, a.shape)) return;
  value_error(a.op, a.label() + " has shape " + shape_text(a) + ", expected " +
                        shape_text(shape, ndim) + why);
}

void check_dense(const Array& a) {
  if (!a.c_order)
    value_error(a.op, a.label() + " is not contiguous in C order; pass a contiguous copy");
}

// Axes of a View by growing distance in memory, without those of size 1.
static int sorted_axes(const View& v, int* axes) {
  int n = 0;
  for (int d = v.ndim - 1; d >= 0; --d)
    if (v.shape[d] != 1) axes[n++] = d;
  std::stable_sort(axes, axes + n,
                   [&](int i, int j) { return std::abs(v.stride(i)) < std::abs(v.stride(j)); });
  return n;
}

void check_writable(const Array& a) {
  if (a.library == Library::jax)
    type_error(a.op, a.label() +
                         " is a JAX array, which is immutable; take the result instead of "
                         "passing it as an output, write to a NumPy array, or use onepass.jax");
  if (!a.writable)
    value_error(a.op, a.label() + " is read-only, but the call writes to it; pass a writable copy");
  if (a.c_order || a.size() == 0) return;
  int axes[kMaxAxes];
  const int n = sorted_axes(a, axes);
  int64_t reach = a.itemsize();  // bytes that the axes so far span
  for (int i = 0; i < n; ++i) {
    const int64_t stride = std::abs(a.stride(axes[i]));
    if (stride < reach)
      value_error(a.op, a.label() +
                            (stride == 0 ? " has stride 0 along axis " + std::to_string(axes[i]) +
                                               " (a broadcast view)"
                                         : std::string(" overlaps itself")) +
                            ", but the call writes to it; pass a contiguous copy");
    reach += stride * (a.shape[axes[i]] - 1);
  }
}

}  // namespace onepass::bind
