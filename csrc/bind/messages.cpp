#include "bind/messages.h"

namespace onepass::bind {

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

}  // namespace onepass::bind
