// Python scalars to C++: each function reads one argument or raises an error that names it.
#pragma once
#include <string_view>

#include "bind/messages.h"
#include "core/philox.h"

namespace onepass::bind {

double real(const char* op, const char* name, PyObject* object);
uint64_t unsigned_64(const char* op, const char* name, PyObject* object);
int64_t signed_64(const char* op, const char* name, PyObject* object);
bool boolean(const char* op, const char* name, PyObject* object);
// Valid as long as the object.
std::string_view string(const char* op, const char* name, PyObject* object);
// `first` counts units of so many elements of the mask.
DropoutStream random_stream(const char* op, const char* name, PyObject* p, PyObject* seed,
                            PyObject* offset, PyObject* first, int64_t elements);

}  // namespace onepass::bind
