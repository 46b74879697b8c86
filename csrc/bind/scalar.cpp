#include "bind/scalar.h"

#include <string>

#include "bind/view.h"

namespace onepass::bind {

double real(const char* op, const char* name, PyObject* object) {
  const double value = PyFloat_AsDouble(object);
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    type_error(op, is(name, object) + ", expected a number");
  }
  return value;
}

static py::object as_int(const char* op, const char* name, PyObject* object) {
  PyObject* integer = PyNumber_Index(object);
  if (!integer) {
    PyErr_Clear();
    type_error(op, is(name, object) + ", expected an integer");
  }
  return py::reinterpret_steal<py::object>(integer);
}

uint64_t unsigned_64(const char* op, const char* name, PyObject* object) {
  const unsigned long long value = PyLong_AsUnsignedLongLong(as_int(op, name, object).ptr());
  if (value == static_cast<unsigned long long>(-1) && PyErr_Occurred()) {
    PyErr_Clear();
    value_error(op, is(name, object) + ", expected 0 <= " + name + " < 2**64");
  }
  return value;
}

int64_t signed_64(const char* op, const char* name, PyObject* object) {
  const long long value = PyLong_AsLongLong(as_int(op, name, object).ptr());
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    value_error(op, is(name, object) + ", expected a 64-bit integer");
  }
  return value;
}

bool boolean(const char* op, const char* name, PyObject* object) {
  // PyObject_IsTrue takes everything: refuse what is not a number, such as None and 'no'.
  const int value =
      PyNumber_Check(object) && !PyComplex_Check(object) ? PyObject_IsTrue(object) : -1;
  if (value < 0) {
    PyErr_Clear();
    type_error(op, is(name, object) + ", expected True or False");
  }
  return value;
}

std::string_view string(const char* op, const char* name, PyObject* object) {
  if (!PyUnicode_Check(object)) type_error(op, is(name, object) + ", expected a string");
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(object, &size);
  if (!text) throw py::error_already_set();
  return {text, size_t(size)};
}

// The element of a mask that `object` is, in units of so many elements.
static int64_t first_element(const char* op, const char* name, PyObject* object, int64_t elements) {
  const int64_t limit = elements > 1 ? (int64_t(1) << 62) / elements : int64_t(1) << 62;
  const long long value = PyLong_AsLongLong(as_int(op, name, object).ptr());
  PyErr_Clear();  // -1
  if (value < 0 || value >= limit)
    value_error(op, is(name, object) + ", expected 0 <= " + name + " < " +
                        (elements > 1 ? std::to_string(limit) : "2**62"));
  return value * elements;
}

uint64_t word_or_device(const char* op, PyObject* object, DeviceWord* word, const uint64_t** at) {
  View v;
  if (!PyLong_Check(object) && view(object, &v) == ViewError::none && v.cuda_device >= 0) {
    if (v.size() != 1 || (v.element != Element::i64 && v.element != Element::u64))
      type_error(op, "'" + std::string(word->name) +
                         "' is an array on a CUDA device of another shape or dtype, expected an "
                         "integer, or one number of int64 or uint64 there");
    word->array = object;
    word->device = v.cuda_device;
    *at = static_cast<const uint64_t*>(v.data);
    return 0;
  }
  return unsigned_64(op, word->name, object);
}

DropoutStream random_stream(const char* op, const char* name, PyObject* p, PyObject* seed,
                            PyObject* offset, PyObject* first, int64_t elements,
                            DeviceWord* seed_word, DeviceWord* offset_word) {
  const double probability = real(op, name, p);
  if (!(probability >= 0 && probability <= 1))
    value_error(op, is(name, p) + ", expected a probability, 0 <= " + name + " <= 1");
  DropoutStream stream{0, 0, host::dropout_threshold(probability)};
  stream.seed = word_or_device(op, seed, seed_word, &stream.seed_at);
  stream.offset = word_or_device(op, offset, offset_word, &stream.offset_at);
  stream.first = first_element(op, "first", first, elements);
  return stream;
}

}  // namespace onepass::bind
