#include "bind/contract.h"

#include <cstring>
#include <string>

namespace onepass::bind {

// ---- opening

Border::Border(const Contract& contract, Arguments given, Array* room)
    : contract_(contract), given_(given), at_(room) {
  given_.expect(op(), contract.given);
  for (int n = 0; n < contract.inputs; ++n) open_input(contract.order[n]);
  check_one_device(at_, contract.inputs);
  check_floating(first());
}

void Border::open_input(int i) {
  const unsigned use = contract_.arguments[i].use;
  if ((use & optional) && given(i) == Py_None) return;
  if (use & dense) return open_dense(&(*this)[i], op(), name(i), given(i));
  open(&(*this)[i], op(), name(i), given(i));
}

void Border::open_output(int i) {
  const Argument& a = contract_.arguments[i];
  if (left_ >> i & 1) return;
  Array* to = &(*this)[i];
  if (a.kind.shape == Shape::reference)
    return open_result(to, op(), name(i), a.use & made ? Py_None : given(i), first());
  const Extents& e = extents_[int(a.kind.shape)];
  make(to, op(), name(i), e.at, e.ndim, first(), a.kind.type != Type::reference);
}

void Border::set(Shape shape, std::initializer_list<int64_t> extents, const char* why) {
  Extents& e = extents_[int(shape)];
  e.ndim = 0;
  for (const int64_t extent : extents) e.at[e.ndim++] = extent;
  e.why = why;
}

void Border::set_rows() {
  const Array& x = first();
  Extents& e = extents_[int(Shape::rows)];
  e.ndim = 0;
  for (int d = 0; d < x.ndim; ++d)
    if (d != 1) e.at[e.ndim++] = x.shape[d];
  e.why = ": the input without its class axis";
}

// ---- scalars

double Border::number(int i) const {
  const Argument& a = contract_.arguments[i];
  const double value = PyFloat_AsDouble(given(i));
  const bool failed = value == -1 && PyErr_Occurred();
  PyErr_Clear();
  if (!failed && value >= a.low && value <= a.high) return value;
  const std::string is = std::string(a.name) + " is " + repr(given(i)) + ", expected a ";
  if (failed) type_error(op(), is + "number" + a.more);
  std::string low = std::to_string(a.low), high = std::to_string(a.high);
  for (std::string* text : {&low, &high}) {
    text->erase(text->find_last_not_of('0') + 1);
    if (text->back() == '.') text->pop_back();
  }
  value_error(op(), is +
                        (a.high == kLargest ? "finite number >= " + low
                                            : "number, " + low + " <= " + a.name + " <= " + high) +
                        a.more);
}

int Border::choice(int i) const {
  const Argument& a = contract_.arguments[i];
  const std::string_view wanted = string(op(), a.name, given(i));
  int n = 0;
  for (std::string_view rest = a.more; !rest.empty(); ++n) {
    const size_t end = rest.find(' ');
    if (rest.substr(0, end) == wanted) return n;
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
  }
  value_error(op(), std::string(a.name) + " is " + repr(given(i)) + ", expected one of " + a.more);
}

int Border::axis(int i) const {
  const int64_t value = integer(i);
  const int64_t d = value < 0 ? value + first().ndim : value;
  if (d < 0 || d >= first().ndim)
    value_error(op(), std::string(name(i)) + " is " + std::to_string(value) + ", but " +
                          first().label() + " has shape " + shape_text(first()));
  return int(d);
}

DropoutStream Border::dropout(int p, int seed, int offset) const {
  return random_stream(op(), name(p), given(p), given(seed), given(offset));
}

// ---- checks

bool Border::writes(int i) const {
  const Argument& a = contract_.arguments[i];
  return a.result() || ((a.use & update) && !frozen_);
}

void Border::check_form(int i) {
  const Argument& a = contract_.arguments[i];
  const Array& given_array = (*this)[i];
  const Extents& e = extents_[int(a.kind.shape)];
  Shape shape = a.kind.shape;
  switch (a.kind.type) {
    case Type::reference:
      check_dtype_like(given_array, first());
      break;
    case Type::parameter:
      check_floating(given_array);
      check_parameter_dtype(given_array, first());
      break;
    case Type::computing:
      check_computing_dtype(given_array, first());
      break;
    case Type::target:
      if (given_array.floating()) {
        check_dtype_like(given_array, first());
        shape = Shape::reference;
      } else if (given_array.element == Element::boolean || given_array.element == Element::other) {
        type_error(op(), given_array.label() + " has dtype " + dtype_text(given_array) +
                             ", expected integer class indices or probabilities like " +
                             first().label());
      }
      break;
    default:
      break;
  }
  if (shape == Shape::reference) {
    check_shape_like(given_array, first());
  } else if (shape != Shape::free) {
    check_shape(given_array, e.at, e.ndim, e.why);
  }
  if (a.use & packed) check_dense(given_array);
  if (writes(i)) check_writable(given_array);
}

// A result may be exactly an aliased input; an array that the call made overlaps nothing.
void Border::check_apart(int i) {
  const Array& written = (*this)[i];
  if (written.made) return;
  const bool result = contract_.arguments[i].result();
  for (int n = 0; n < contract_.arrays; ++n) {
    const int j = contract_.order[n];
    if (j != i) check_overlap(written, at_[n], result && (contract_.arguments[j].use & aliased));
  }
}

const Target& Border::check() {
  for (int n = contract_.inputs; n < contract_.arrays; ++n) open_output(contract_.order[n]);
  target_ = check_device(at_, contract_.arrays);
  for (int n = 0; n < contract_.arrays; ++n)
    if (at_[n] && (n < contract_.inputs || !at_[n].made)) check_form(contract_.order[n]);
  for (int n = 0; n < contract_.arrays; ++n)
    if (at_[n] && writes(contract_.order[n])) check_apart(contract_.order[n]);
  for (int n = 0; n < contract_.arrays; ++n)
    if (at_[n] && !at_[n].c_order) staging_.load(&at_[n], writes(contract_.order[n]));
  return target_;
}

void Border::finish() {
  staging_.store();
  for (int n = 0; n < contract_.arrays; ++n)
    if (writes(contract_.order[n])) mark_written(at_[n]);
}

// ---- the module

static std::vector<Contract>& listed() {
  static std::vector<Contract>& all = *new std::vector<Contract>;
  return all;
}
const std::vector<Contract>& contracts() { return listed(); }

void define(py::module_& m, const Contract& contract, FastFunction function) {
  std::string signature = std::string(contract.op) + "(";
  bool first = true;
  for (int i = 0; i < contract.count; ++i) {
    const Argument& a = contract.arguments[i];
    if (a.use & made) continue;
    signature += (first ? "" : ", ") + std::string(a.name);
    first = false;
  }
  define(m, signature + ")", function);
  listed().push_back(contract);
}

namespace {

py::object contract_list(Arguments given) {
  given.expect("contracts", 0);
  constexpr const char* kShapeNames[] = {"",     "reference", "channel", "saved",
                                         "rows", "single",    "free"};
  constexpr const char* kTypeNames[] = {"",       "floating", "reference", "parameter", "computing",
                                        "target", "free",     "flag",      "integer",   "word",
                                        "number", "choice",   "text",      "axis",      "options"};
  py::list all;
  for (const Contract& c : contracts()) {
    py::list arguments;
    for (int i = 0; i < c.count; ++i) {
      const Argument& a = c.arguments[i];
      py::dict d;
      d["name"] = a.name;
      d["shape"] = kShapeNames[int(a.kind.shape)];
      d["type"] = kTypeNames[int(a.kind.type)];
      for (const auto& [word, bit] : {std::pair{"write", write},
                                      {"update", update},
                                      {"made", made},
                                      {"optional", optional},
                                      {"aliased", aliased},
                                      {"packed", packed}})
        d[word] = bool(a.use & bit);
      d["low"] = a.low;
      d["high"] = a.high;
      d["choices"] = a.kind.type == Type::choice ? a.more : "";
      arguments.append(d);
    }
    py::dict d;
    d["name"] = c.op;
    d["arguments"] = arguments;
    all.append(d);
  }
  return all;
}

}  // namespace

void define_contracts(py::module_& m) { define(m, "contracts()", &fast<&contract_list>); }

}  // namespace onepass::bind
