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
// An integer, or an array of one on a CUDA device, which goes into *at: a kernel reads it there.
struct DeviceWord {
  const char* name;
  PyObject* array = nullptr;  // null: an integer was given
  int32_t device = -1;
};
uint64_t word_or_device(const char* op, PyObject* object, DeviceWord* word, const uint64_t** at);
// `first` counts units of so many elements of the mask.
DropoutStream random_stream(const char* op, const char* name, PyObject* p, PyObject* seed,
                            PyObject* offset, PyObject* first, int64_t elements,
                            DeviceWord* seed_word, DeviceWord* offset_word);

}  // namespace onepass::bind
