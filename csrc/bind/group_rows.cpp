#include "bind/group_rows.h"

#include <pybind11/critical_section.h>

#include <algorithm>
#include <atomic>

#include "bind/contract.h"
#include "bind/kept.h"
#include "bind/scalar.h"

namespace onepass::bind {
namespace {

constexpr const char* kOwner = "GroupRows";

// Set once, when the module is made.
PyTypeObject* group_rows_type = nullptr;

// A number that no dict had before its last change; 0 where Python keeps none, or, without a GIL,
// does not keep it in order. Reading it takes the place of reading a dozen options.
uint64_t version_of(PyObject* dict) {
#if PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  return reinterpret_cast<PyDictObject*>(dict)->ma_version_tag;
#pragma GCC diagnostic pop
#else
  (void)dict;
  return 0;
#endif
}

// Whether the list has these objects and no others. One object is locked at a time: where there is
// no GIL, whoever waits for a second lock gives up the first.
template <class Expected>
bool holds(PyObject* list, Py_ssize_t count, Expected expected) {
  const py::scoped_critical_section unchanged(list);
  if (PyList_GET_SIZE(list) != count) return false;
  for (Py_ssize_t i = 0; i < count; ++i)
    if (PyList_GET_ITEM(list, i) != expected(i)) return false;
  return true;
}

uint64_t new_version() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace

const GroupRows* GroupRows::of(PyObject* object) {
  if (Py_TYPE(object) != group_rows_type) return nullptr;
  auto held = reinterpret_cast<py::detail::instance*>(object)->get_value_and_holder();
  return held.holder_constructed() ? held.value_ptr<GroupRows>() : nullptr;
}

GroupRows::GroupRows(PyObject* groups, PyObject* rate, PyObject* keys, PyObject* rows, double low,
                     double high)
    : low_(low), high_(high), version_(new_version()) {
  const Items dicts(kOwner, "groups", groups), all(kOwner, "rows", rows);
  if (!PyTuple_Check(keys)) type_error(kOwner, "'keys' is " + repr(keys) + ", expected a tuple");
  if (rate != Py_None && all.count() != dicts.count())
    value_error(kOwner, "'rows' has " + std::to_string(all.count()) + " entries, expected " +
                            std::to_string(dicts.count()) + ", one for each group");
  py::list kept;
  for (Py_ssize_t g = 0; g < dicts.count(); ++g) add_group(dicts[g], rate, keys, &kept);
  for (Py_ssize_t g = 0; g < all.count(); ++g) {
    const Items row(kOwner, "rows", all[g]);
    if (g == 0) width_ = row.count();
    if (row.count() != width_ || width_ == 0)
      value_error(kOwner, "rows[" + std::to_string(g) + "] has " + std::to_string(row.count()) +
                              " values, expected as many as the others");
    for (Py_ssize_t h = 0; h < width_; ++h) values_.push_back(real(kOwner, "rows", row[h]));
  }
  row_count_ = all.count();
  kept_ = kept;
}

void GroupRows::add_group(PyObject* dict, PyObject* rate, PyObject* keys, py::list* kept) {
  static Name params_name("params");
  PyObject* const params = params_name.get();
  if (!PyDict_Check(dict)) type_error(kOwner, "a group is " + repr(dict) + ", expected a dict");
  const uint64_t version = version_of(dict);
  // A copy: comparing keys may run Python, and there may be no GIL.
  const auto items = py::reinterpret_steal<py::dict>(PyDict_Copy(dict));
  if (!items) throw py::error_already_set();
  PyObject* list = PyDict_GetItemWithError(items.ptr(), params);
  if (!list || !PyList_Check(list)) type_error(kOwner, "a group has no list 'params'");
  const auto parameters = py::reinterpret_steal<py::tuple>(PyList_AsTuple(list));
  if (!parameters) throw py::error_already_set();
  kept->append(py::handle(dict));
  kept->append(py::handle(list));
  kept->append(parameters);
  const Group group{dict,
                    list,
                    version,
                    Py_ssize_t(items_.size()),
                    Py_ssize_t(parameters_.size()),
                    Py_ssize_t(items.size()),
                    Py_ssize_t(parameters.size())};
  PyObject *key = nullptr, *value = nullptr;
  for (Py_ssize_t at = 0; PyDict_Next(items.ptr(), &at, &key, &value);) {
    Use use = Use::other;
    if (key == params || (PyUnicode_Check(key) && PyUnicode_Compare(key, params) == 0)) {
      use = Use::params;
    } else if (rate != Py_None && PyObject_RichCompareBool(key, rate, Py_EQ) == 1) {
      use = Use::rate;
    } else if (PySequence_Contains(keys, key) == 1) {
      use = Use::option;
    }
    if (PyErr_Occurred()) throw py::error_already_set();
    kept->append(py::handle(key));
    if (use == Use::option) kept->append(py::handle(value));
    items_.push_back({key, use == Use::option ? value : nullptr, use});
  }
  for (const py::handle parameter : parameters) parameters_.push_back(parameter.ptr());
  groups_.push_back(group);
}

bool GroupRows::follow(PyObject* groups) {
  const auto count = Py_ssize_t(groups_.size());
  if (!PyList_Check(groups) ||
      !holds(groups, count, [this](Py_ssize_t g) { return groups_[size_t(g)].dict; }))
    return false;
  for (Py_ssize_t g = 0; g < count; ++g) {
    Group& group = groups_[size_t(g)];
    const uint64_t version = version_of(group.dict);
    if (version == 0 || version != group.version) {
      if (!same_items(g)) return false;
      group.version = version;
    }
    PyObject* const* before = parameters_.data() + group.parameters;
    if (!holds(group.params, group.parameter_count, [before](Py_ssize_t i) { return before[i]; }))
      return false;
  }
  return true;
}

bool GroupRows::same_items(Py_ssize_t g) {
  const Group& group = groups_[size_t(g)];
  const py::scoped_critical_section unchanged(group.dict);
  if (PyDict_Size(group.dict) != group.item_count) return false;
  const Item* item = items_.data() + group.items;
  PyObject *key = nullptr, *value = nullptr;
  for (Py_ssize_t at = 0; PyDict_Next(group.dict, &at, &key, &value); ++item) {
    if (key != item->key) return false;
    if (item->use == Use::option && value != item->value) return false;
    if (item->use == Use::params && value != group.params) return false;
    if (item->use != Use::rate) continue;
    if (!PyFloat_CheckExact(value)) return false;
    const double rate = PyFloat_AS_DOUBLE(value);
    if (!(rate >= low_ && rate < high_)) return false;
    double& held = values_[size_t(g * width_)];
    if (rate == held) continue;
    held = rate;
    version_ = new_version();
  }
  return true;
}

namespace {

GroupRows& rows_of(PyObject* self) {
  const GroupRows* rows = GroupRows::of(self);
  if (!rows) type_error(kOwner, "the object was not initialised; call GroupRows(…)");
  return const_cast<GroupRows&>(*rows);
}

PyObject* follow(PyObject* self, PyObject* const* at, Py_ssize_t count) {
  try {
    const Arguments given{at, count};
    given.expect("follow", 1);
    return py::bool_(rows_of(self).follow(given[0])).release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

py::tuple row(const py::object& self, Py_ssize_t g) {
  const GroupRows& rows = rows_of(self.ptr());
  if (g < 0 || g >= rows.row_count()) throw py::index_error();
  py::tuple values(rows.width());
  for (Py_ssize_t h = 0; h < rows.width(); ++h)
    values[size_t(h)] = rows.values()[size_t(g * rows.width() + h)];
  return values;
}

// The groups lead to the parameters, and those may lead back to the optimizer.
void let_python_collect(PyHeapTypeObject* type) {
  type->ht_type.tp_flags |= Py_TPFLAGS_HAVE_GC;
  type->ht_type.tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    if (const GroupRows* rows = GroupRows::of(self)) Py_VISIT(rows->kept());
    return 0;
  };
  type->ht_type.tp_clear = [](PyObject* self) {
    if (GroupRows::of(self)) rows_of(self).drop();
    return 0;
  };
}

}  // namespace

void define_group_rows(py::module_& m) {
  const py::handle plain(reinterpret_cast<PyObject*>(&PyType_Type));
  py::class_<GroupRows> type(m, "GroupRows", py::is_final(), py::metaclass(plain),
                             py::custom_type_setup(&let_python_collect));
  group_rows_type = reinterpret_cast<PyTypeObject*>(type.ptr());
  type.def(py::init([](const py::object& groups, const py::object& rate, const py::object& keys,
                       const py::object& rows, double low, double high) {
             return std::make_unique<GroupRows>(groups.ptr(), rate.ptr(), keys.ptr(), rows.ptr(),
                                                low, high);
           }),
           py::arg("groups"), py::arg("rate"), py::arg("keys"), py::arg("rows"), py::arg("low"),
           py::arg("high"), py::pos_only())
      .def("__len__", [](const py::object& self) { return rows_of(self.ptr()).row_count(); })
      .def("__getitem__", &row, py::arg("group"), py::pos_only());
  define_method(type, "follow(groups)", &follow);
}

}  // namespace onepass::bind
