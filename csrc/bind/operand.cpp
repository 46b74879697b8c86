#include "bind/operand.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/philox.h"
#include "cpu/dispatch.h"

namespace onepass::bind {

// ---- messages

std::string Array::label() const {
  return index < 0 ? "'" + std::string(name) + "'"
                   : "'" + std::string(name) + "[" + std::to_string(index) + "]'";
}

void type_error(const char* op, const std::string& text) {
  throw py::type_error(std::string(op) + ": " + text);
}
void value_error(const char* op, const std::string& text) {
  throw py::value_error(std::string(op) + ": " + text);
}

std::string shape_text(const int64_t* shape, int ndim) {
  std::string text = "(";
  for (int d = 0; d < ndim; ++d) text += (d ? ", " : "") + std::to_string(shape[d]);
  return text + (ndim == 1 ? ",)" : ")");
}

std::string repr(PyObject* object) { return py::cast<std::string>(py::repr(object)); }

std::string dtype_text(const Array& a) {
  const py::object dtype = py::getattr(a.object, "dtype", py::none());
  std::string text = py::cast<std::string>(py::str(dtype));
  if (text == ">f4" || text == ">f8" || text == ">f2") text += " (big-endian)";
  return text;
}

// ---- arrays

// A library that refuses to hand out its memory (a sparse tensor, say) has its reason told.
static ViewError view_or_explain(Array* a) {
  try {
    return view(a->object, a);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw;
    const std::string why = py::cast<std::string>(py::str(error.value()));
    type_error(a->op, a->label() + " cannot be read: " + why.substr(0, why.find('\n')));
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
                     (PyList_Check(object) || PyTuple_Check(object) ? "; use numpy.asarray" : ""));
    case ViewError::device:
      type_error(op, a->label() + " lies on a device that is neither CPU nor CUDA; move it to one");
    case ViewError::negated:
      type_error(op, a->label() + " is a lazily negated torch tensor; pass x.resolve_neg()");
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

void check_channel_dtype(const Array& a, const Array& like) {
  if (a.element == like.element) return;
  const DType wanted = computing_type(like.dtype());
  if (a.element == Element(wanted)) return;
  type_error(a.op, a.label() + " has dtype " + dtype_text(a) + ", expected " +
                       (wanted == DType::f64 ? "float64" : "float32") +
                       (Element(wanted) == like.element ? "" : " or " + dtype_text(like)) +
                       " for " + like.label() + " of " + dtype_text(like));
}

void check_shape_like(const Array& a, const Array& like) {
  if (a.ndim == like.ndim && std::equal(a.shape, a.shape + a.ndim, like.shape)) return;
  value_error(a.op, a.label() + " has shape " + shape_text(a) + ", expected " + shape_text(like) +
                        " like " + like.label());
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
                         "passing it as an output, or write to a NumPy array");
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

// ---- overlap

Extent extent_of(const View& v) {
  auto low = reinterpret_cast<uintptr_t>(v.data), high = low + uintptr_t(v.itemsize());
  if (v.c_order) return {low, low + uintptr_t(v.size() * v.itemsize())};
  for (int d = 0; d < v.ndim; ++d) {
    if (v.shape[d] == 0) return {low, low};
    const int64_t reach = (v.shape[d] - 1) * v.stride(d);
    (reach < 0 ? low : high) += uintptr_t(reach);
  }
  return {low, high};
}

namespace {

// Is there 0 <= z_k <= most_k with sum(step_k·z_k) = target? Steps descend. Each level leaves few
// candidates where the strides nest, as those of real arrays do; the budget bounds the rest.
struct Equation {
  struct Term {
    int64_t step, most;
  };
  Term terms[2 * kMaxAxes + 1];
  int64_t reach[2 * kMaxAxes + 2];    // the most that terms k... can add up to
  int64_t divisor[2 * kMaxAxes + 2];  // of the steps of terms k...
  int count = 0;
  int budget = 10000;

  void add(int64_t step, int64_t most) {
    if (step && most) terms[count++] = {step, most};
  }
  void prepare() {
    std::sort(terms, terms + count, [](Term a, Term b) { return a.step > b.step; });
    int merged = 0;
    for (int k = 0; k < count; ++k) {
      if (merged && terms[merged - 1].step == terms[k].step) {
        terms[merged - 1].most += terms[k].most;
      } else {
        terms[merged++] = terms[k];
      }
    }
    count = merged;
    reach[count] = divisor[count] = 0;
    for (int k = count - 1; k >= 0; --k) {
      reach[k] = reach[k + 1] + terms[k].step * terms[k].most;
      divisor[k] = std::gcd(divisor[k + 1], terms[k].step);
    }
  }
  bool solvable(int64_t target, int k = 0) {
    if (target < 0 || target > reach[k]) return false;
    if (target == 0 || --budget < 0) return true;
    if (target % divisor[k]) return false;
    const int64_t step = terms[k].step;
    const int64_t first = std::max<int64_t>(0, (target - reach[k + 1] + step - 1) / step);
    const int64_t last = std::min(terms[k].most, target / step);
    for (int64_t z = last; z >= first; --z)
      if (solvable(target - z * step, k + 1)) return true;
    return false;
  }
};

}  // namespace

bool overlap(const View& a, const View& b) {
  const Extent ea = extent_of(a), eb = extent_of(b);
  if (ea.low >= eb.high || eb.low >= ea.high || ea.low == ea.high || eb.low == eb.high)
    return false;
  if (a.c_order && b.c_order) return true;
  // With every axis counted from its low end, element (i) of a lies at ea.low + sum(|s|·i), and of
  // b likewise; they share a byte if the offsets differ by less than an item:
  //   sum_a |s|·i + sum_b |s|·(n - 1 - j) + e = eb.low - ea.low + sum_b |s|·(n - 1) + item_b - 1
  // hence the extra unknown 0 <= e <= item_a + item_b - 2.
  Equation equation;
  for (const View* v : {&a, &b})
    for (int d = 0; d < v->ndim; ++d) equation.add(std::abs(v->stride(d)), v->shape[d] - 1);
  equation.add(1, a.itemsize() + b.itemsize() - 2);
  equation.prepare();
  const int64_t span = int64_t(eb.high - eb.low) - b.itemsize();
  return equation.solvable(int64_t(eb.low - ea.low) + span + b.itemsize() - 1);
}

bool same_memory(const View& a, const View& b) {
  if (a.data != b.data || a.element != b.element || a.ndim != b.ndim) return false;
  for (int d = 0; d < a.ndim; ++d)
    if (a.shape[d] != b.shape[d] || (a.shape[d] != 1 && a.stride(d) != b.stride(d))) return false;
  return true;
}

void check_overlap(const Array& written, const Array& other, bool exact_alias_allowed) {
  if (!written || !other) return;
  if (exact_alias_allowed && written.data == other.data && same_memory(written, other)) return;
  if (overlap(written, other))
    value_error(written.op,
                written.label() + " overlaps " + other.label() + " in memory" +
                    (exact_alias_allowed ? "; pass exactly the same array or a separate one"
                                         : "; pass a separate array"));
}

// ---- memory that no kernel can address

bool Staging::misaligned(const View& v) {
  if (v.c_order) return false;
  const int64_t item = v.itemsize();
  if (item <= 1 || v.size() == 0) return false;
  bool bad = reinterpret_cast<uintptr_t>(v.data) % uintptr_t(item);
  for (int d = 0; d < v.ndim; ++d) bad = bad || (v.shape[d] > 1 && v.stride(d) % item);
  return bad;
}

// visit(element) for every element of an array of any strides, in C order.
template <class Visit>
static void for_elements(const View& v, Visit visit) {
  const int64_t size = v.size();
  int64_t index[kMaxAxes] = {};
  char* at = static_cast<char*>(v.data);
  for (int64_t i = 0; i < size; ++i) {
    visit(at);
    for (int d = v.ndim - 1; d >= 0; --d) {
      at += v.stride(d);
      if (++index[d] < v.shape[d]) break;
      at -= v.shape[d] * v.stride(d);
      index[d] = 0;
    }
  }
}

// Copies all elements to dense memory.
static void gather(const View& v, char* dense) {
  const auto item = size_t(v.itemsize());
  for_elements(v, [&](const char* at) {
    std::memcpy(dense, at, item);
    dense += item;
  });
}
static void scatter(const View& v, const char* dense) {
  const auto item = size_t(v.itemsize());
  for_elements(v, [&](char* at) {
    std::memcpy(at, dense, item);
    dense += item;
  });
}

void fill_zero(const Array& a) {
  const auto item = size_t(a.itemsize());
  if (a.c_order) {
    std::memset(a.data, 0, size_t(a.size()) * item);
  } else {
    for_elements(a, [&](char* at) { std::memset(at, 0, item); });
  }
}

void Staging::load_on_device(Array* a, bool writes) {
  if (!writes) {
    made_.push_back(
        py::module_::import("onepass._array").attr("contiguous")(py::handle(a->object)));
    Array copy;
    open(&copy, a->op, a->name, made_.back().ptr(), a->index);
    if (copy.c_order) {
      *a = std::move(copy);
      return;
    }
  }
  value_error(a->op, a->label() +
                         " is not aligned to its elements or not contiguous; pass a contiguous "
                         "copy");
}

void Staging::load(Array* a, bool writes) {
  if (a->cuda_device >= 0) return load_on_device(a, writes);
  copies_.emplace_back();
  Copy& copy = copies_.back();
  copy.original = *a;
  copy.writes = writes;
  const int64_t bytes = a->size() * a->itemsize();
  copy.memory.resize(size_t(bytes / 8 + 1));
  gather(*a, reinterpret_cast<char*>(copy.memory.data()));
  copy.dims.assign(a->shape, a->shape + a->ndim);
  copy.dims.resize(size_t(2 * a->ndim));
  int64_t next = a->itemsize();
  for (int d = a->ndim - 1; d >= 0; --d) {
    copy.dims[size_t(a->ndim + d)] = next;
    next *= a->shape[d];
  }
  a->data = copy.memory.data();
  a->shape = copy.dims.data();
  a->strides = copy.dims.data() + a->ndim;
  a->stride_unit = 1;
  a->c_order = true;
}

void Staging::store() {
  for (Copy& copy : copies_)
    if (copy.writes) scatter(copy.original, reinterpret_cast<const char*>(copy.memory.data()));
}

// ---- layout

namespace {

// Axes of more than one element, with strides in elements.
struct Axes {
  int count = 0;
  int64_t shape[kMaxAxes];
  int64_t strides[kMaxOperands][kMaxAxes];
  const int operands;

  Axes(const Array* arrays, int n) : operands(n) {
    for (int d = 0; d < arrays[0].ndim; ++d) {
      if (arrays[0].shape[d] == 1) continue;
      shape[count] = arrays[0].shape[d];
      for (int o = 0; o < n; ++o) strides[o][count] = arrays[o].stride(d) / arrays[o].itemsize();
      ++count;
    }
  }
  void swap(int i, int j) {
    std::swap(shape[i], shape[j]);
    for (int o = 0; o < operands; ++o) std::swap(strides[o][i], strides[o][j]);
  }
  void sort() {
    for (int i = 1; i < count; ++i)
      for (int j = i; j > 0 && std::abs(strides[0][j - 1]) < std::abs(strides[0][j]); --j)
        swap(j - 1, j);
  }
  // Walks axes that the first operand walks backwards from their other end.
  void flip(Operand* at) {
    for (int d = 0; d < count; ++d) {
      if (strides[0][d] >= 0) continue;
      for (int o = 0; o < operands; ++o) {
        at[o].data =
            static_cast<char*>(at[o].data) + strides[o][d] * (shape[d] - 1) * size_of(at[o].dtype);
        strides[o][d] = -strides[o][d];
      }
    }
  }
  void merge() {
    int last = 0;
    for (int d = 1; d < count; ++d) {
      bool together = true;
      for (int o = 0; o < operands; ++o)
        together = together && strides[o][last] == strides[o][d] * shape[d];
      if (together) {
        shape[last] *= shape[d];
      } else {
        shape[++last] = shape[d];
      }
      for (int o = 0; o < operands; ++o) strides[o][last] = strides[o][d];
    }
    if (count) count = last + 1;
  }
  bool dense(int o) const {
    int64_t next = 1;
    for (int d = count - 1; d >= 0; --d) {
      if (strides[o][d] != next) return false;
      next *= shape[d];
    }
    return true;
  }
};

}  // namespace

void arrange(Layout* layout, const Array* arrays, int count, bool keep_order) {
  layout->size = arrays[0].size();
  layout->ndim = 1;
  layout->shape[0] = layout->size;
  bool all_dense = true;
  for (int o = 0; o < count; ++o) {
    layout->operands[o] = {arrays[o].data, arrays[o].dtype(), nullptr};
    all_dense = all_dense && arrays[o].c_order;
  }
  if (all_dense || layout->size == 0) return;
  Axes axes(arrays, count);
  if (!keep_order) {
    axes.flip(layout->operands);
    axes.sort();
  }
  axes.merge();
  if (axes.count > kMaxDims)
    value_error(arrays[0].op, arrays[0].label() + " needs " + std::to_string(axes.count) +
                                  " dimensions after merging, at most " + std::to_string(kMaxDims) +
                                  " are supported; pass contiguous arrays");
  layout->ndim = axes.count;
  std::copy(axes.shape, axes.shape + axes.count, layout->shape);
  for (int o = 0; o < count; ++o) {
    if (axes.dense(o)) continue;
    std::copy(axes.strides[o], axes.strides[o] + axes.count, layout->strides[o]);
    layout->operands[o].strides = layout->strides[o];
  }
}

// ---- scalars

double real(const char* op, const char* name, PyObject* object) {
  const double value = PyFloat_AsDouble(object);
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    type_error(op, std::string(name) + " is " + repr(object) + ", expected a number");
  }
  return value;
}

static py::object as_int(const char* op, const char* name, PyObject* object) {
  PyObject* integer = PyNumber_Index(object);
  if (!integer) {
    PyErr_Clear();
    type_error(op, std::string(name) + " is " + repr(object) + ", expected an integer");
  }
  return py::reinterpret_steal<py::object>(integer);
}

uint64_t unsigned_64(const char* op, const char* name, PyObject* object) {
  const unsigned long long value = PyLong_AsUnsignedLongLong(as_int(op, name, object).ptr());
  if (value == static_cast<unsigned long long>(-1) && PyErr_Occurred()) {
    PyErr_Clear();
    value_error(op,
                std::string(name) + " is " + repr(object) + ", expected 0 <= " + name + " < 2**64");
  }
  return value;
}

int64_t signed_64(const char* op, const char* name, PyObject* object) {
  const long long value = PyLong_AsLongLong(as_int(op, name, object).ptr());
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    value_error(op, std::string(name) + " is " + repr(object) + ", expected a 64-bit integer");
  }
  return value;
}

bool boolean(const char* op, const char* name, PyObject* object) {
  const int value = PyObject_IsTrue(object);
  if (value < 0) {
    PyErr_Clear();
    type_error(op, std::string(name) + " is " + repr(object) + ", expected True or False");
  }
  return value;
}

std::string_view string(const char* op, const char* name, PyObject* object) {
  if (!PyUnicode_Check(object))
    type_error(op, std::string(name) + " is " + repr(object) + ", expected a string");
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(object, &size);
  if (!text) throw py::error_already_set();
  return {text, size_t(size)};
}

DropoutStream random_stream(const char* op, const char* name, PyObject* p, PyObject* seed,
                            PyObject* offset) {
  const double probability = real(op, name, p);
  if (!(probability >= 0 && probability <= 1))
    value_error(op, std::string(name) + " is " + repr(p) +
                        ", expected a probability, 0 <= " + name + " <= 1");
  return {unsigned_64(op, "seed", seed), unsigned_64(op, "offset", offset),
          host::dropout_threshold(probability)};
}

// ---- running

void mark_written(py::handle tensors) {
  static PyObject* increment = nullptr;
  if (!increment) {
    const py::object modules = py::module_::import("sys").attr("modules");
    if (!modules.contains("torch")) return;
    const py::object graph = modules["torch"].attr("autograd").attr("graph");
    increment = py::object(graph.attr("increment_version")).release().ptr();
  }
  py::reinterpret_borrow<py::object>(increment)(tensors);
}

void mark_written(const Array& a) {
  if (a && !a.made && a.library == Library::torch) mark_written(py::handle(a.object));
}

}  // namespace onepass::bind
