// Array → View: the memory of any array object (address, shape, strides, dtype, device), without
// copying it. This file knows the libraries and the exchange protocols, but no kernels.
//
// Tried in this order, with the answer cached by type: NumPy (reads its struct),
// __dlpack_c_exchange_api__, CuPy (reads its attributes), __cuda_array_interface__, __dlpack__
// (with max_version, then without).
#pragma once
#include <pybind11/pybind11.h>

#include "core/dtype.h"

namespace onepass::bind {

namespace py = pybind11;

// The first four are DType's.
enum class Element : uint8_t {
  f32,
  f64,
  f16,
  bf16,
  i8,
  i16,
  i32,
  i64,
  u8,
  u16,
  u32,
  u64,
  boolean,
  other
};
static_assert(int(Element::f32) == int(DType::f32) && int(Element::bf16) == int(DType::bf16));

constexpr int kItemSize[] = {4, 8, 2, 2, 1, 2, 4, 8, 1, 2, 4, 8, 1, 0};

constexpr int kMaxAxes = 64;  // of an array as given; NumPy's own limit

enum class Library : uint8_t { other, numpy, torch, jax, cupy };

struct View {
  void* data = nullptr;
  const int64_t* shape = nullptr;
  const int64_t* strides = nullptr;  // in units of stride_unit bytes
  int64_t stride_unit = 1;
  int32_t ndim = 0;
  int32_t cuda_device = -1;  // -1: the CPU
  Element element = Element::other;
  Library library = Library::other;
  bool writable = true;
  bool described = true;  // false: on a device whose arrays this process cannot read
  bool c_order = false;   // dense in C order and aligned; also when there are no elements
  py::object owner;       // keeps shape and data alive where the object itself does not

  bool floating() const { return element <= Element::bf16; }
  DType dtype() const { return DType(element); }
  int64_t itemsize() const { return kItemSize[int(element)]; }
  int64_t stride(int d) const { return strides[d] * stride_unit; }  // in bytes
  int64_t size() const {
    int64_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= shape[d];
    return n;
  }
};

// not_held: memory that the producer may reuse while a kernel still reads it.
enum class ViewError { none, not_an_array, device, negated, malformed, not_held };

// Reads an object. Python errors of a producer pass through. To ask a torch tensor whether it is
// negated costs as much as all the rest: a caller that has asked before may leave it out.
ViewError view(PyObject* object, View* out, bool ask_negated = true);

// The stream on which the library of an array on a CUDA device works, or the array says it does.
void* stream_of(PyObject* object, int32_t cuda_device);

}  // namespace onepass::bind
