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
  if (contract.reference >= 0) check_floating(first());
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
  PyObject* out = a.use & made ? Py_None : given(i);
  const Array& like = (*this)[contract_.pattern];
  if (out != Py_None || a.kind.shape == Shape::reference)
    return open_result(to, op(), name(i), out, like);
  const Extents& e = extents_[int(a.kind.shape)];
  make(to, op(), name(i), e.at, e.ndim, like, a.kind.type != Type::reference);
}

void Border::set(Shape shape, const int64_t* extents, int ndim, const char* why) {
  Extents& e = extents_[int(shape)];
  for (int d = 0; d < ndim; ++d) e.at[d] = extents[d];
  e.ndim = ndim;
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

// False where the array has the reference's shape whatever the table says: class probabilities.
static bool check_type(Type type, const Array& array, const Array& reference) {
  switch (type) {
    case Type::floating:
      check_floating(array);
      return true;
    case Type::reference:
      check_dtype_like(array, reference);
      return true;
    case Type::parameter:
      check_floating(array);
      check_parameter_dtype(array, reference);
      return true;
    case Type::computing:
      check_computing_dtype(array, reference);
      return true;
    case Type::compatible:
      check_floating(array);
      check_compatible_dtype(array, reference);
      return true;
    case Type::target:
      if (array.floating()) {
        check_dtype_like(array, reference);
        return false;
      }
      if (array.element == Element::boolean || array.element == Element::other)
        type_error(array.op, array.label() + " has dtype " + dtype_text(array) +
                                 ", expected integer class indices or probabilities like " +
                                 reference.label());
      return true;
    default:
      return true;
  }
}

void check_form(const Argument& a, const Array& array, const Array& reference,
                const Extents* extents, bool writes) {
  const Shape shape = check_type(a.kind.type, array, reference) ? a.kind.shape : Shape::reference;
  if (shape == Shape::reference) {
    if (&array != &reference) check_shape_like(array, reference);
  } else if (shape != Shape::free) {
    const Extents& e = extents[int(shape)];
    check_shape(array, e.at, e.ndim, e.why);
  }
  if (a.use & packed) check_dense(array);
  if (writes) check_writable(array);
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

void Border::stage(int n) {
  const int i = contract_.order[n];
  if (!(contract_.arguments[i].use & strided)) {
    staging_.load(&at_[n], writes(i));
  } else {
    staging_.load_misaligned(&at_[n], writes(i));
  }
}

const Target& Border::check() {
  for (int n = contract_.inputs; n < contract_.arrays; ++n) open_output(contract_.order[n]);
  target_ = check_device(at_, contract_.arrays);
  const Array& reference = at_[contract_.reference < 0 ? 0 : contract_.slot[contract_.reference]];
  for (int n = 0; n < contract_.arrays; ++n)
    if (at_[n] && (n < contract_.inputs || !at_[n].made)) {
      const int i = contract_.order[n];
      check_form(contract_.arguments[i], at_[n], reference, extents_, writes(i));
    }
  for (int n = 0; n < contract_.arrays; ++n)
    if (at_[n] && writes(contract_.order[n])) check_apart(contract_.order[n]);
  for (int n = 0; n < contract_.arrays; ++n)
    if (at_[n] && !at_[n].c_order) stage(n);
  return target_;
}

void Border::finish() {
  staging_.store();
  for (int n = 0; n < contract_.arrays; ++n)
    if (writes(contract_.order[n])) mark_written(at_[n]);
}

// ---- lists

BorderList::BorderList(const Contract& contract, int i, const Items& items)
    : arrays(size_t(items.count())) {
  const Argument& a = contract.arguments[i];
  for (size_t n = 0; n < arrays.size(); ++n)
    open(&arrays[n], contract.op, a.name, items[Py_ssize_t(n)], int64_t(n));
  target = check_device(arrays.data(), int(arrays.size()));
  for (Array& array : arrays) check_form(a, array, array, nullptr, false);
  for (Array& array : arrays) staging_.load_misaligned(&array, false);
}

// ---- the module

namespace {

struct Listed {
  Contract contract;
  py::object callable;
};
std::vector<Listed>& listed() {
  static std::vector<Listed>& all = *new std::vector<Listed>;
  return all;
}

}  // namespace

void list_contract(const Contract& contract, const py::object& callable) {
  listed().push_back({contract, callable});
}

py::object make_function(const py::module_& m, const Contract& contract, FastFunction function) {
  std::string signature = std::string(contract.op) + "(";
  bool first = true;
  for (int i = 0; i < contract.count; ++i) {
    const Argument& a = contract.arguments[i];
    if (a.use & made) continue;
    signature += (first ? "" : ", ") + std::string(a.name);
    first = false;
  }
  const py::object callable = make_function(m, signature + ")", function);
  list_contract(contract, callable);
  return callable;
}

void define(py::module_& m, const Contract& contract, FastFunction function) {
  m.attr(contract.op) = make_function(m, contract, function);
}

namespace {

py::object contract_list(Arguments given) {
  given.expect("contracts", 0);
  constexpr const char* kShapeNames[] = {"",     "reference", "channel", "saved",
                                         "rows", "single",    "free"};
  constexpr const char* kTypeNames[] = {
      "",       "floating",   "reference", "parameter", "computing", "compatible",
      "target", "mask",       "flag",      "integer",   "word",      "number",
      "real",   "norm_order", "choice",    "text",      "axis",      "options"};
  static_assert(std::size(kShapeNames) == kShapes && std::size(kTypeNames) == kTypes);
  py::list all;
  for (const auto& [c, callable] : listed()) {
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
                                      {"packed", packed},
                                      {"many", many}})
        d[word] = bool(a.use & bit);
      d["low"] = a.low;
      d["high"] = a.high;
      d["choices"] = a.kind.type == Type::choice ? a.more : "";
      arguments.append(d);
    }
    py::dict d;
    d["name"] = c.op;
    d["function"] = callable;
    d["arguments"] = arguments;
    all.append(d);
  }
  return all;
}

}  // namespace

void define_contracts(py::module_& m) { define(m, "contracts()", &fast<&contract_list>); }

}  // namespace onepass::bind
