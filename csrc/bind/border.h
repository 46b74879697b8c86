// Walks a contract in one fixed sequence:
//
//   open → device → dtype → shape → writable → overlap → stage → (the call) → store → mark
//
// Nothing is written before every check has passed. The compiler unrolls the walk: a call pays for
// its own arrays and flags only.
#pragma once
#include <initializer_list>
#include <stdexcept>
#include <utility>
#include <vector>

#include "bind/autograd.h"
#include "bind/contract.h"
#include "bind/overlap.h"
#include "bind/result.h"
#include "bind/scalar.h"
#include "bind/staging.h"

namespace onepass::bind {

struct Extents {
  static constexpr int kUnset = -1;
  int64_t at[kMaxAxes];  // those below ndim
  int ndim = kUnset;
  const char* why = "";  // ends the message
};
// The extents of a shape; a call that has not set them is a mistake in this library.
inline const Extents& extents_of(const Extents* extents, Shape shape) {
  const Extents& e = extents[int(shape)];
  if (e.ndim == Extents::kUnset)
    throw std::logic_error("the call has not set the extents of a shape of its contract");
  return e;
}

// Targets of floats are probabilities.
void check_probabilities(const Array& target, const Array& like, const Extents& rows);
[[noreturn]] void refuse_target_dtype(const Array& target, const Array& like);
[[noreturn]] void refuse_label_dtype(const Array& target);

// Checks an array by its entry in a table: dtype, shape, order, writability. `extents` has those of
// each Shape that the call sets.
[[gnu::always_inline]] inline void check_form(const Argument& a, const Array& array,
                                              const Array& like, const Extents* extents,
                                              bool writes) {
  Shape shape = a.kind.shape;
  switch (a.kind.type) {
    case Type::floating:
      check_floating(array);
      break;
    case Type::reference:
      check_dtype_like(array, like);
      break;
    case Type::parameter:
      check_floating(array);
      check_parameter_dtype(array, like);
      break;
    case Type::computing:
      check_computing_dtype(array, like);
      break;
    case Type::compatible:
      check_floating(array);
      check_compatible_dtype(array, like);
      break;
    case Type::wide:
      check_wide_dtype(array);
      break;
    case Type::target:
      if (array.floating()) {
        check_probabilities(array, like, extents_of(extents, shape));
        shape = Shape::free;
      } else if (array.element == Element::boolean || array.element == Element::other) {
        refuse_target_dtype(array, like);
      }
      break;
    case Type::labels:
      if (array.floating() || array.element == Element::boolean || array.element == Element::other)
        refuse_label_dtype(array);
      break;
    default:
      break;
  }
  if (shape == Shape::reference) {
    if (&array != &like) check_shape_like(array, like, a.more);
  } else if (shape == Shape::broadcast) {
    check_broadcast(array, like);
  } else if (shape != Shape::free) {
    const Extents& e = extents_of(extents, shape);
    check_shape(array, e.at, e.ndim, e.why);
  }
  if (a.use & packed) check_dense(array);
  if (writes) check_writable(array);
}

// The part that is the same for every contract: scalars, and the extents that the call sets.
// Arguments are found by their position in the table.
class Border {
 public:
  const Array& first() const { return *first_; }  // the reference
  const char* op() const { return op_; }
  PyObject* given(int i) const { return given_[i]; }

  bool boolean(int i) const { return bind::boolean(op_, name(i), given(i)); }
  int64_t integer(int i) const { return signed_64(op_, name(i), given(i)); }
  double real(int i) const { return bind::real(op_, name(i), given(i)); }
  double number(int i) const;
  int choice(int i) const;  // which one
  int axis(int i) const;    // counted from the front
  // `first` counts units of so many elements of the mask.
  DropoutStream dropout(int p, int seed, int offset, int first, int64_t elements = 1);

  // The extents of arrays of a shape; `why` ends the message.
  void set(Shape shape, const int64_t* extents, int ndim, const char* why) {
    Extents& e = extents_[int(shape)];
    for (int d = 0; d < ndim; ++d) e.at[d] = extents[d];
    e.ndim = ndim;
    e.why = why;
  }
  void set(Shape shape, std::initializer_list<int64_t> extents, const char* why) {
    set(shape, extents.begin(), int(extents.size()), why);
  }
  // The reference along axis d seen as (outer, extent, inner).
  struct Along {
    int64_t outer, extent, inner;
  };
  Along along(int d) const;
  // Shape::shorter: the reference with `extent` along axis d.
  void set_shorter(int d, int64_t extent, const char* why);
  void set_rows(int axis = 1);                 // Shape::rows: the reference without that axis
  void freeze() { frozen_ = true; }            // arrays to update are only read
  void leave_out(int i) { left_ |= 1u << i; }  // an array that this call does not make

 protected:
  // `first` is not filled in yet: of a pointer to const GCC would take it that it is read here.
  Border(const Contract& contract, Arguments given, Array* first)
      : op_(contract.op), arguments_(contract.arguments), given_(given), first_(first) {}
  const char* name(int i) const { return arguments_[i].name; }
  void make_result(Array* to, const Argument& a, const Array& like) const;

  const char* op_;
  const Argument* arguments_;
  Arguments given_;
  const Array* first_;
  // Numbers of dropout that a kernel is to read on its device; after the work there that makes
  // them.
  void order_words(Target* target) const;

  bool frozen_ = false;
  unsigned left_ = 0;
  DeviceWord seed_{"seed"}, offset_{"offset"};
  Extents extents_[kShapes];
};

namespace detail {
template <int kFirst, class Step, int... I>
[[gnu::always_inline]] inline void each([[maybe_unused]] Step step,
                                        std::integer_sequence<int, I...>) {
  (step(std::integral_constant<int, kFirst + I>{}), ...);
}
}  // namespace detail

template <const Contract& kContract>
class BorderOf : public Border {
 public:
  // Opens what is read, and checks devices and the reference's dtype.
  explicit BorderOf(Arguments given) : BorderOf(given, kContract) {}
  // `contract` has the arrays of kContract, names of its own, and perhaps more scalars.
  [[gnu::always_inline]] BorderOf(Arguments given, const Contract& contract)
      : Border(contract, given, at_ + kContract.slot[kReference < 0 ? 0 : kReference]) {
    given.expect(op_, contract.given);
    each<0, kInputs>([&](auto n) { open_input<n>(); });
    check_one_device(at_, kInputs);
    if (kReference >= 0) check_floating(first());
  }

  Array& operator[](int i) { return at_[kContract.slot[i]]; }
  const Array& operator[](int i) const { return at_[kContract.slot[i]]; }
  bool has(int i) const { return bool((*this)[i]); }
  void* data(int i) const { return (*this)[i].data; }
  ChannelVector vector(int i) const {
    const Array& a = (*this)[i];
    return a ? ChannelVector{a.data, a.dtype()} : ChannelVector{nullptr, DType::f32};
  }

  // Opens and makes the results, then every check and the staging; where the call runs.
  Target check() {
    each<kInputs, kArrays>([&](auto n) { open_output<n>(); });
    Target target = check_device(at_, kArrays);
    order_words(&target);
    each<0, kArrays>([&](auto n) {
      if (at_[n] && (n < kInputs || !at_[n].made)) check<n>();
    });
    each<0, kArrays>([&](auto n) {
      if (at_[n] && writes<n>() && !at_[n].made) check_apart<n>();
    });
    each<0, kArrays>([&](auto n) {
      if (at_[n] && !at_[n].c_order) stage<n>();
    });
    return target;
  }
  // Stores staged results and tells torch.
  void finish() {
    staging_.store();
    each<0, kArrays>([&](auto n) {
      if (writes<n>()) mark_written(at_[n]);
    });
  }
  template <class Call>
  void run(const Target& target, void (*driver)(const Call&), Call* call) {
    bind::run(target, driver, call, first().size());
    finish();
  }
  // The object to return: None for an absent array.
  py::object result(int i) const {
    return has(i) ? returned((*this)[i], first()) : py::object(py::none());
  }

 private:
  static constexpr int kInputs = kContract.inputs, kArrays = kContract.arrays;
  static constexpr int kReference = kContract.reference;
  // Positions of arrays: inputs first, as Contract::order has them.
  static constexpr int position(int n) { return kContract.order[n]; }
  static constexpr Argument entry(int n) { return kContract.arguments[position(n)]; }

  template <int kBegin, int kEnd, class Step>
  [[gnu::always_inline]] static void each(Step step) {
    detail::each<kBegin>(step, std::make_integer_sequence<int, kEnd - kBegin>{});
  }
  template <int n>
  bool writes() const {
    constexpr Argument a = entry(n);
    return a.result() || ((a.use & update) && !frozen_);
  }
  template <int n>
  void open_input() {
    constexpr Argument a = entry(n);
    PyObject* const object = given_[position(n)];
    if ((a.use & optional) && object == Py_None) return;
    if (a.use & dense) {
      open_dense(&at_[n], op_, a.name, object);
    } else {
      open_detached(&at_[n], op_, a.name, object);
    }
  }
  template <int n>
  void open_output() {
    constexpr Argument a = entry(n);
    if (left_ >> position(n) & 1) return;
    PyObject* const object = a.use & made ? Py_None : given_[position(n)];
    const Array& like = (*this)[kContract.pattern];
    if (a.kind.shape == Shape::reference || object != Py_None) {
      open_result(&at_[n], op_, a.name, object, like);
    } else {
      make_result(&at_[n], a, like);
    }
  }
  template <int n>
  void check() const {
    constexpr Argument a = entry(n);
    if constexpr (position(n) == kReference) {  // the constructor has checked its dtype
      constexpr Argument rest{a.name, {Shape::free, Type::none}, a.use};
      check_form(rest, at_[n], at_[n], extents_, writes<n>());
    } else {
      check_form(a, at_[n], first(), extents_, writes<n>());
    }
  }
  // A result may be exactly an aliased input.
  template <int n>
  void check_apart() const {
    each<0, kArrays>([&](auto other) {
      constexpr bool alias = entry(n).result() && (entry(other).use & aliased);
      if (other != n) check_overlap(at_[n], at_[other], alias);
    });
  }
  template <int n>
  void stage() {
    if (entry(n).use & strided) {
      staging_.load_misaligned(&at_[n], writes<n>());
    } else {
      staging_.load(&at_[n], writes<n>());
    }
  }

  Array at_[kArrays];
  Staging staging_;
};

// Sets a field of a call to the array at i; -1, of a table without that argument: leaves it alone.
template <int i, const Contract& kContract, class Field>
void place([[maybe_unused]] const BorderOf<kContract>& b, [[maybe_unused]] Field* to) {
  if constexpr (i >= 0) {
    if constexpr (std::is_same_v<Field, ChannelVector>) {
      *to = b.vector(i);
    } else {
      *to = static_cast<Field>(b.data(i));
    }
  }
}

// The arrays of an argument that is a list: opened, checked, and aligned; for a call that writes
// none of them.
struct BorderList {
  BorderList(const Contract& contract, int i, const Items& items);
  std::vector<Array> arrays;
  Target target{nullptr};

 private:
  Staging staging_;
};

}  // namespace onepass::bind
