// The errors that a call raises. Every message names the operation, the argument, the value given,
// what was expected and, if possible, the cure.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace onepass::bind {

namespace py = pybind11;

[[noreturn]] void type_error(const char* op, const std::string& text);
[[noreturn]] void value_error(const char* op, const std::string& text);
std::string shape_text(const int64_t* shape, int ndim);
std::string repr(PyObject* object);
// 'eps' is -1
std::string is(const char* name, PyObject* object);
// 'none', 'mean' or 'sum', of "none mean sum"
std::string one_of(std::string_view words);

}  // namespace onepass::bind
