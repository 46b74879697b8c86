#include "bind/messages.h"

#include <algorithm>

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

std::string is(const char* name, PyObject* object) {
  return "'" + std::string(name) + "' is " + repr(object);
}

std::string one_of(std::string_view words) {
  std::string text;
  for (size_t end; !words.empty(); words.remove_prefix(std::min(end, words.size()))) {
    end = words.find(' ');
    const bool last = end == words.npos;
    if (!text.empty()) text += last ? " or " : ", ";
    text += "'" + std::string(words.substr(0, end)) + "'";
    end = last ? words.size() : end + 1;
  }
  return text;
}

}  // namespace onepass::bind
