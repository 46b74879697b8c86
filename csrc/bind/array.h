// An array argument: opens it, labels it, and compares it with what the call expects. Nothing here
// writes to an array.
#pragma once
#include <string>

#include "bind/messages.h"
#include "bind/target.h"
#include "bind/view.h"

namespace onepass::bind {

// An argument that has been read.
struct Array : View {
  const char* op = nullptr;
  const char* name = nullptr;
  int64_t index = -1;  // in a list of arrays
  PyObject* object = nullptr;
  py::object made;  // the same, if the call made it

  explicit operator bool() const { return object != nullptr; }
  std::string label() const;  // 'params[3]'
};

// Reads an argument; TypeError unless it is an array.
void open(Array* a, const char* op, const char* name, PyObject* object, int64_t index = -1);
// The same, but None leaves the Array empty (false).
void open_optional(Array* a, const char* op, const char* name, PyObject* object);

inline std::string shape_text(const View& v) { return shape_text(v.shape, v.ndim); }
std::string dtype_text(const Array& a);

// The type that kernels compute in for elements of type t.
DType computing_type(DType t);

// All arrays lie on one device, and that device is usable. Comes first: if it is not, shape and
// dtype are unknown. Absent arrays are skipped.
void check_one_device(const Array* arrays, int count);
// The same, and where the call will run: on the stream of the first array.
Target check_device(const Array* arrays, int count);
// Orders the stream of an array that check_device has not seen before the target's.
void add_stream(Target* target, const Array& a);

void check_floating(const Array& a);
void check_dtype_like(const Array& a, const Array& like);
// The dtype of `like` or the type it computes in.
void check_parameter_dtype(const Array& a, const Array& like);
// A dtype that kernels compute with in the same type as that of `like`.
void check_compatible_dtype(const Array& a, const Array& like);
// The type that `like` computes in.
void check_computing_dtype(const Array& a, const Array& like);
void check_wide_dtype(const Array& a);
// `cure` ends the message.
void check_shape_like(const Array& a, const Array& like, const char* cure = "");
void check_shape(const Array& a, const int64_t* shape, int ndim, const char* why);
// Its shape broadcasts to that of `like`.
void check_broadcast(const Array& a, const Array& like);
void check_dense(const Array& a);
// Not read-only, and no two elements in one place.
void check_writable(const Array& a);

}  // namespace onepass::bind
