#include "bind/border.h"

#include <algorithm>
#include <string>

namespace onepass::bind {

void Border::set_rows(int axis) {
  const Array& x = first();
  Extents& e = extents_[int(Shape::rows)];
  e.ndim = 0;
  for (int d = 0; d < x.ndim; ++d)
    if (d != axis) e.at[e.ndim++] = x.shape[d];
  e.why = ": the input without its class axis";
}

Border::Along Border::along(int d) const {
  const Array& x = first();
  Along a{1, x.shape[d], 1};
  for (int i = 0; i < x.ndim; ++i) (i < d ? a.outer : a.inner) *= i == d ? 1 : x.shape[i];
  return a;
}

void Border::set_shorter(int d, int64_t extent, const char* why) {
  const Array& x = first();
  set(Shape::shorter, x.shape, x.ndim, why);
  extents_[int(Shape::shorter)].at[d] = extent;
}

// ---- scalars

double Border::number(int i) const {
  const Argument& a = arguments_[i];
  const double value = PyFloat_AsDouble(given(i));
  const bool failed = value == -1 && PyErr_Occurred();
  if (!failed && value >= a.low && value <= a.high) return value;
  PyErr_Clear();
  const std::string wrong = is(a.name, given(i)) + ", expected a ";
  if (failed) type_error(op(), wrong + "number" + a.more);
  std::string low = std::to_string(a.low), high = std::to_string(a.high);
  for (std::string* text : {&low, &high}) {
    text->erase(text->find_last_not_of('0') + 1);
    if (text->back() == '.') text->pop_back();
  }
  value_error(op(),
              wrong +
                  (a.high == kLargest    ? "finite number >= " + low
                   : a.high == kInfinity ? "number >= " + low
                                         : "number, " + low + " <= " + a.name + " <= " + high) +
                  a.more);
}

int Border::choice(int i) const {
  const Argument& a = arguments_[i];
  const std::string_view wanted = string(op(), a.name, given(i));
  int n = 0;
  for (std::string_view rest = a.more; !rest.empty(); ++n) {
    const size_t end = rest.find(' ');
    if (rest.substr(0, end) == wanted) return n;
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
  }
  value_error(op(), is(a.name, given(i)) + ", expected " + one_of(a.more));
}

int Border::axis(int i) const {
  const int64_t value = integer(i);
  const int64_t d = value < 0 ? value + first().ndim : value;
  if (d < 0 || d >= first().ndim)
    value_error(op(), is(name(i), given(i)) + ", but " + first().label() + " has shape " +
                          shape_text(first()));
  return int(d);
}

DropoutStream Border::dropout(int p, int seed, int offset, int first, int64_t elements) {
  return random_stream(op(), name(p), given(p), given(seed), given(offset), given(first), elements,
                       &seed_, &offset_);
}

void Border::order_words(Target* target) const {
  for (const DeviceWord* word : {&seed_, &offset_}) {
    if (!word->array) continue;
    if (word->device != target->device)
      type_error(op(), "'" + std::string(word->name) + "' lies on CUDA device " +
                           std::to_string(word->device) + " but the arrays on " +
                           (target->on_device() ? "CUDA device " + std::to_string(target->device)
                                                : std::string("the CPU")) +
                           ", expected an integer, or a number there");
    void* const stream = stream_of(word->array, target->device);
    if (stream != target->stream) target->others.push_back(stream);
  }
}

// ---- checks

void check_probabilities(const Array& target, const Array& like, const Extents& rows) {
  if (target.ndim != like.ndim || !std::equal(like.shape, like.shape + like.ndim, target.shape)) {
    const std::string is = target.label() + " has dtype " + dtype_text(target) + " and shape " +
                           shape_text(target) + ", expected integer class indices of shape " +
                           shape_text(rows.at, rows.ndim);
    const std::string or_else =
        ", or probabilities of shape " + shape_text(like) + " like " + like.label();
    if (target.ndim == rows.ndim && std::equal(rows.at, rows.at + rows.ndim, target.shape))
      type_error(target.op, is + or_else + "; target.astype('int64') makes integers of labels");
    value_error(target.op, is + or_else);
  }
  check_dtype_like(target, like);
}

void refuse_target_dtype(const Array& target, const Array& like) {
  type_error(target.op, target.label() + " has dtype " + dtype_text(target) +
                            ", expected integer class indices or probabilities like " +
                            like.label());
}

void refuse_label_dtype(const Array& target) {
  type_error(target.op, target.label() + " has dtype " + dtype_text(target) +
                            ", expected integer class indices, such as astype('int64') makes");
}

void Border::make_result(Array* to, const Argument& a, const Array& like) const {
  const Extents& e = extents_of(extents_, a.kind.shape);
  make(to, op(), a.name, e.at, e.ndim, like, a.kind.type != Type::reference);
}

// ---- lists

BorderList::BorderList(const Contract& contract, int i, const Items& items)
    : arrays(size_t(items.count())) {
  const Argument& a = contract.arguments[i];
  for (size_t n = 0; n < arrays.size(); ++n)
    open_detached(&arrays[n], contract.op, a.name, items[Py_ssize_t(n)], int64_t(n));
  target = check_device(arrays.data(), int(arrays.size()));
  for (Array& array : arrays) check_form(a, array, array, nullptr, false);
  for (Array& array : arrays) staging_.load_misaligned(&array, false);
}

}  // namespace onepass::bind
