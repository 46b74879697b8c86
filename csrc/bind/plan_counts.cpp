#include "bind/plan_counts.h"

#include <cmath>
#include <cstring>

namespace onepass::bind {
namespace {

int64_t bits_of(double value) {
  int64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
double double_of(int64_t bits) {
  double value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

void check_entries(const char* op, const char* name, Py_ssize_t given, size_t wanted) {
  if (size_t(given) != wanted)
    value_error(op, "'" + std::string(name) + "' has " + std::to_string(given) +
                        " entries, expected " + std::to_string(wanted) +
                        ", one for each parameter");
}

}  // namespace

PlanCounts::PlanCounts(const RuleInfo& rule, const char* op, size_t parameters)
    : rule_(rule), op_(op), steps_(parameters) {
  for (size_t i = 0; i < parameters; ++i)
    scalars_.insert(scalars_.end(), rule.starts.begin(), rule.starts.end());
}

void PlanCounts::move_to_device(const Target& target, size_t numbers) {
  target_ = target;
  memory_ = lend(target, int64_t(steps_.size() + scalars_.size() + 1 + numbers), "int64", true);
  if (!scalars_.empty()) write();
}

void PlanCounts::read() {
  if (!on_device()) return;
  const py::object host = read_back(target_, memory_);
  const auto at = [&host](size_t i) { return py::cast<int64_t>(host[py::int_(i)]); };
  for (size_t i = 0; i < steps_.size(); ++i) steps_[i] = at(i);
  for (size_t i = 0; i < scalars_.size(); ++i) scalars_[i] = double_of(at(steps_.size() + i));
}

void PlanCounts::write() const {
  if (!on_device()) return;
  py::list all;
  for (const int64_t step : steps_) all.append(step);
  for (const double scalar : scalars_) all.append(bits_of(scalar));
  overwrite(target_, memory_, all);
}

py::list PlanCounts::steps() {
  read();
  py::list all;
  for (const int64_t step : steps_) all.append(step);
  return all;
}

void PlanCounts::set_steps(const py::object& steps) {
  const Items items(op_, "steps", steps.ptr());
  check_entries(op_, "steps", items.count(), steps_.size());
  std::vector<int64_t> values;
  for (Py_ssize_t i = 0; i < items.count(); ++i) {
    values.push_back(signed_64(op_, "steps", items[i]));
    if (values.back() < 0)
      value_error(op_, "steps[" + std::to_string(i) + "] is " + std::to_string(values.back()) +
                           ", expected a count >= 0");
  }
  if (!scalars_.empty()) read();
  steps_ = values;
  ++edits_;
  write();
}

void PlanCounts::write_steps(const py::object& to) {
  read();
  Py_buffer buffer;
  if (PyObject_GetBuffer(to.ptr(), &buffer, PyBUF_WRITABLE | PyBUF_FORMAT) != 0)
    throw py::error_already_set();
  const bool fits = buffer.format && std::strcmp(buffer.format, "f") == 0;
  const bool enough = size_t(buffer.len) == steps_.size() * sizeof(float);
  if (fits && enough) {
    auto* values = static_cast<float*>(buffer.buf);
    for (size_t i = 0; i < steps_.size(); ++i) values[i] = float(steps_[i]);
  }
  PyBuffer_Release(&buffer);
  if (!fits) type_error(op_, "'steps' is not a buffer of float32");
  if (!enough)
    value_error(op_, "'steps' has not " + std::to_string(steps_.size()) +
                         " entries, one for each parameter");
}

py::dict PlanCounts::scalars() {
  if (!scalars_.empty()) read();
  py::dict all;
  const size_t count = rule_.scalars.size();
  for (size_t s = 0; s < count; ++s) {
    py::list values;
    for (size_t i = 0; i < steps_.size(); ++i) values.append(scalars_[i * count + s]);
    all[rule_.scalars[s]] = values;
  }
  return all;
}

void PlanCounts::set_scalars(const py::object& scalars) {
  const size_t count = rule_.scalars.size();
  std::string names;
  for (const char* name : rule_.scalars)
    names += (names.empty() ? "'" : ", '") + std::string(name) + "'";
  const bool fits = PyDict_Check(scalars.ptr()) && size_t(PyDict_Size(scalars.ptr())) == count;
  std::vector<double> values(scalars_.size());
  for (size_t s = 0; s < count || !fits; ++s) {
    const char* name = fits ? rule_.scalars[s] : nullptr;
    PyObject* list = fits ? PyDict_GetItemString(scalars.ptr(), name) : nullptr;
    if (!list)
      value_error(op_, "'scalars' is " + repr(scalars.ptr()) + ", expected a dict of {" + names +
                           "}, each with a list of numbers, one for each parameter");
    const Items items(op_, name, list);
    check_entries(op_, name, items.count(), steps_.size());
    for (size_t i = 0; i < steps_.size(); ++i)
      values[i * count + s] = real(op_, name, items[Py_ssize_t(i)]);
  }
  if (scalars_.empty()) return;
  read();
  scalars_ = values;
  ++edits_;
  write();
}

void PlanCounts::advance(size_t parameter, const double* row) {
  ++steps_[parameter];
  const size_t count = rule_.scalars.size();
  for (size_t s = 0; s < count; ++s) scalars_[parameter * count + s] = row[rule_.hyper.size() + s];
}

void PlanCounts::ride(const Target& target, Elementwise* update, GlobalNorm* norm) {
  target_ = target;
  auto* counts = static_cast<int64_t*>(pointer_of(memory_));
  auto* both = reinterpret_cast<uint32_t*>(tickets());
  update->rider.steps = counts;
  update->rider.scalars = reinterpret_cast<double*>(counts + steps_.size());
  update->rider.ticket = both;
  norm->ticket = both + 1;
}

int64_t* PlanCounts::tickets() const {
  return static_cast<int64_t*>(pointer_of(memory_)) + steps_.size() + scalars_.size();
}

void PlanCounts::give_numbers(Elementwise* update) const {
  if (!on_device()) return;
  keep_for_graph(memory_);
  update->numbers = reinterpret_cast<const double*>(tickets() + 1);
}

HostBytes PlanCounts::numbers_for(const std::vector<double>& numbers) const {
  HostBytes bytes;
  bytes.from = numbers.data();
  bytes.size = int64_t(numbers.size() * sizeof(double));
  bytes.to = tickets() + 1;
  return bytes;
}

}  // namespace onepass::bind
