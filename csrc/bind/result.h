// Creates a call's result arrays, in the library and on the device of one of its arguments.
#pragma once
#include "bind/array.h"

namespace onepass::bind {

// Opens the array given for a result; for None a new one like `like`.
void open_result(Array* a, const char* op, const char* name, PyObject* given, const Array& like);
// A new array in C order: of the type that `like` computes in, or of its own dtype.
void make(Array* a, const char* op, const char* name, const int64_t* shape, int ndim,
          const Array& like, bool computing = true);
// A new NumPy array of one byte an element: bool, or uint8.
void make_bytes(Array* a, const char* op, const char* name, const int64_t* shape, int ndim,
                Element element);
// Reads an argument, or a copy of it if it is not dense in C order.
void open_dense(Array* a, const char* op, const char* name, PyObject* object);
// A copy in another dtype, made by the array's library.
py::object convert(const Array& a, const char* dtype);
// The object to return for a result: what was given, or what was made, in the library of `like`.
py::object returned(const Array& a, const Array& like);
// A 0-d value of the type that `like` computes in.
py::object scalar(double value, const Array& like);

}  // namespace onepass::bind
