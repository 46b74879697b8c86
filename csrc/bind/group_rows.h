// The groups of an optimizer, as its last step saw them. Each step asks whether they are still the
// same. Objects are compared by identity alone; if one was replaced, Python compares it in full.
// Only a new learning rate, which a schedule sets at every step, is taken over here.
#pragma once
#include <vector>

#include "bind/fast.h"

namespace onepass::bind {

class GroupRows {
 public:
  // groups: dicts, each with a list "params". rate: the key of the rate, which a row of
  // hyper-parameters begins with; None: none leads. keys: those of all other options. rows: one for
  // each group; without a rate also others. low, high: a rate from low to below high is taken over.
  GroupRows(PyObject* groups, PyObject* rate, PyObject* keys, PyObject* rows, double low,
            double high);
  // Null for any other object.
  static const GroupRows* of(PyObject* object);

  // Whether the groups hold the same option values and the same parameters. If not, discard this
  // object.
  bool follow(PyObject* groups);

  Py_ssize_t row_count() const { return row_count_; }
  Py_ssize_t width() const { return width_; }
  // row_count() rows of width() values, one after the other.
  const std::vector<double>& values() const { return values_; }
  // Other values have another number; no number is 0.
  uint64_t version() const { return version_; }

  // The references that this holds.
  PyObject* kept() const { return kept_.ptr(); }
  void drop() {
    groups_.clear();
    kept_ = py::object();
  }

 private:
  enum class Use { option, rate, params, other };
  struct Item {
    PyObject *key, *value;  // the value of an option; null for others
    Use use;
  };
  struct Group {
    PyObject *dict, *params;
    uint64_t version;              // of the dict
    Py_ssize_t items, parameters;  // where those of the group begin
    Py_ssize_t item_count, parameter_count;
  };

  void add_group(PyObject* dict, PyObject* rate, PyObject* keys, py::list* kept);
  bool same_items(Py_ssize_t g);

  std::vector<Group> groups_;
  std::vector<Item> items_;            // of the dicts, in order
  std::vector<PyObject*> parameters_;  // of the lists, in order
  Py_ssize_t row_count_ = 0, width_ = 0;
  std::vector<double> values_;
  double low_, high_;  // of the rate
  uint64_t version_;
  py::object kept_;
};

}  // namespace onepass::bind
