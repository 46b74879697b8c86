// The border of a kernel as a table: each argument says which others it is like, whether it is read
// or written, and what may be left out. border.h walks the table. _C.contracts() shows it to
// Python, and tests/test_contracts.py breaks one argument of each at a time.
//
// A shape is a role; the call sets its extents (Border::set). `channel` also fits the weight of a
// layer norm (normalized_shape) or the g of a weight norm, and `saved` fits a (2, rows) state. For
// another role, such as a glu's half-sized output, add a Shape and a Kind; border.h stays as it is.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string_view>

#include "bind/fast.h"

namespace onepass::bind {

// The extents of an array. Those without a comment are set by the call: see Border::set.
enum class Shape : uint8_t {
  none,       // a scalar
  reference,  // those of the reference
  channel,    // one value per channel or class
  saved,      // what forward leaves for backward
  rows,       // the reference without its class axis
  single,     // 0-d
  shorter,    // the reference with fewer along one axis
  free,       // the call checks them
  // An entry of a list, for one parameter: a value for each row or column of its matrices (its last
  // two axes), or None. For a parameter without matrices: a value for each element, or None.
  matrix_row,
  matrix_column,
  vector,
  broadcast,  // they broadcast to the reference
};
constexpr int kShapes = int(Shape::broadcast) + 1;

enum class Type : uint8_t {
  none,
  floating,    // any floating dtype: of the reference, which sets that of the others
  reference,   // the same as the reference
  parameter,   // the reference's, or the type it computes in
  computing,   // the type the reference computes in
  compatible,  // any floating dtype whose kernels compute in the same type
  target,      // integers in the shape given, or the reference's dtype and shape
  mask,        // bool, or uint8 of packed bits: the call checks it
  // scalars
  flag,
  integer,
  word,        // 64 bits without sign
  number,      // in a range
  real,        // any number
  norm_order,  // 1, 2 or inf
  choice,
  text,
  axis,     // of the reference
  options,  // a tuple of the activation's
  labels,   // integers in the shape given
  extents,  // a tuple of sizes: the call checks it
  wide,     // of an array: float64
};
constexpr int kTypes = int(Type::wide) + 1;

struct Kind {
  Shape shape;
  Type type;
};
constexpr Kind reference{Shape::reference, Type::floating};
constexpr Kind like_reference{Shape::reference, Type::reference};
constexpr Kind per_channel{Shape::channel, Type::parameter};
constexpr Kind saved{Shape::saved, Type::computing};
constexpr Kind share_rows{Shape::saved, Type::wide};
constexpr Kind all_shares{Shape::free, Type::wide};
constexpr Kind per_row{Shape::rows, Type::reference};
constexpr Kind class_target{Shape::rows, Type::target};
constexpr Kind class_labels{Shape::rows, Type::labels};
constexpr Kind shorter{Shape::shorter, Type::reference};
constexpr Kind single{Shape::single, Type::computing};
constexpr Kind compatible_reference{Shape::reference, Type::compatible};
constexpr Kind broadcast_weight{Shape::broadcast, Type::parameter};
constexpr Kind bit_mask{Shape::free, Type::mask};

enum Use : unsigned {
  read = 1,
  write = 2,      // None: the call makes it
  update = 4,     // read, and written unless Border::freeze
  made = 8,       // the call makes it: no argument of Python's
  optional = 16,  // may be None
  aliased = 32,   // an output may be exactly this array
  dense = 64,     // read through a dense copy, which is also what `saved` holds
  packed = 128,   // must be dense
  strided = 256,  // keeps its strides; copied only if it is not aligned
  pattern = 512,  // results have its library, device and layout; without one, the reference's
  many = 1024,    // a list of such arrays
};

struct Argument {
  const char* name;
  Kind kind;
  unsigned use = read;
  double low = 0, high = 0;  // of a number
  // For a number, or an array shaped like the reference: the cure. For a choice: its values.
  const char* more = "";
  constexpr bool scalar() const { return kind.shape == Shape::none; }
  constexpr bool result() const { return use & (write | made); }
};

constexpr double kLargest = 1.7976931348623157e308, kInfinity = __builtin_huge_val();
constexpr Argument flag(const char* name) { return {name, {Shape::none, Type::flag}}; }
constexpr Argument axis(const char* name) { return {name, {Shape::none, Type::axis}}; }
constexpr Argument options(const char* name) { return {name, {Shape::none, Type::options}}; }
constexpr Argument extents(const char* name) { return {name, {Shape::none, Type::extents}}; }
constexpr Argument text(const char* name) { return {name, {Shape::none, Type::text}}; }
constexpr Argument word(const char* name) { return {name, {Shape::none, Type::word}}; }
constexpr Argument real(const char* name) { return {name, {Shape::none, Type::real}}; }
constexpr Argument norm_order(const char* name) { return {name, {Shape::none, Type::norm_order}}; }
constexpr Argument integer(const char* name) { return {name, {Shape::none, Type::integer}}; }
constexpr Argument number(const char* name, double low, double high, const char* cure = "") {
  return {name, {Shape::none, Type::number}, read, low, high, cure};
}
constexpr Argument choice(const char* name, const char* choices) {
  return {name, {Shape::none, Type::choice}, read, 0, 0, choices};
}

// Tables made of parts that several operations share.
template <int kCount>
struct ArgumentList {
  Argument at[kCount];
};
template <int... kCounts>
constexpr ArgumentList<(kCounts + ...)> join(const Argument (&... parts)[kCounts]) {
  ArgumentList<(kCounts + ...)> all{};
  int n = 0;
  const auto add = [&](const Argument* part, int count) {
    for (int i = 0; i < count; ++i) all.at[n++] = part[i];
  };
  (add(parts, kCounts), ...);
  return all;
}

// The table of an operation, and where its arrays are: computed by the compiler. A call takes the
// positions of its arguments from here, by their names.
struct Contract {
  static constexpr int kMostArguments = 20;
  const char* op;
  const Argument* arguments;
  int count;
  int given = 0;                   // arguments of Python's
  int reference = -1;              // position
  int pattern = -1;                // position
  int inputs = 0, arrays = 0;      // inputs come first
  int8_t order[kMostArguments]{};  // positions of the arrays
  int8_t slot[kMostArguments]{};   // the inverse

  // The position of an argument: of one that some tables lack, which is -1 there,
  constexpr int find(std::string_view name) const {
    for (int i = 0; i < count; ++i)
      if (name == arguments[i].name) return i;
    return -1;
  }
  // and of one that the table has. A constant of any other name does not compile.
  constexpr int position(std::string_view name) const {
    const int i = find(name);
    return i < 0 ? throw std::logic_error("no argument of that name") : i;
  }
};
template <int kCount>
constexpr Contract contract(const char* op, const Argument (&arguments)[kCount]) {
  static_assert(kCount <= Contract::kMostArguments, "kMostArguments is too small");
  Contract c{op, arguments, int(kCount)};
  for (const bool results : {false, true}) {
    for (int i = 0; i < c.count; ++i) {
      if (arguments[i].scalar() || arguments[i].result() != results) continue;
      c.slot[i] = int8_t(c.arrays);
      c.order[c.arrays++] = int8_t(i);
    }
    if (!results) c.inputs = c.arrays;
  }
  for (int i = 0; i < c.count; ++i) {
    c.given += !(arguments[i].use & made);
    if (arguments[i].kind.type == Type::floating) c.reference = i;
    if (arguments[i].use & pattern) c.pattern = i;
  }
  if (c.pattern < 0) c.pattern = c.reference;
  return c;
}

// Makes a function with a contract, which is then listed.
py::object make_function(const py::module_& m, const Contract& contract, FastFunction function,
                         const void* state = nullptr);
// The same as an attribute of the module.
void define(py::module_& m, const Contract& contract, FastFunction function);
// Lists a contract of another callable.
void list_contract(const Contract& contract, const py::object& callable);

}  // namespace onepass::bind
