// Objects of Python that a function finds when it is first called and keeps as long as the process
// lives. Not static locals: other threads of Python would wait for their guard, with the GIL that
// whoever finds the object needs, or, where there is none, with what stops the collector.
#pragma once
#include <pybind11/pybind11.h>

#include <atomic>

namespace onepass::bind {

namespace py = pybind11;

class Kept {
 public:
  // `find` is py::object(). Two threads may both call it: the first result stays.
  template <class Find>
  PyObject* get(Find find) {
    PyObject* known = object_.load(std::memory_order_acquire);
    if (known) return known;
    py::object found = find();
    if (object_.compare_exchange_strong(known, found.ptr(), std::memory_order_acq_rel))
      return found.release().ptr();
    return known;
  }

 private:
  std::atomic<PyObject*> object_{nullptr};
};

// A name of an attribute or of a key.
class Name {
 public:
  explicit constexpr Name(const char* text) : text_(text) {}
  PyObject* get() {
    return kept_.get([this] {
      const auto made = py::reinterpret_steal<py::object>(PyUnicode_InternFromString(text_));
      if (!made) throw py::error_already_set();
      return made;
    });
  }

 private:
  const char* text_;
  Kept kept_;
};

}  // namespace onepass::bind
