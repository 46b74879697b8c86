// The checks and the layout: Python arguments → Operands that a backend may trust. Every condition
// on dtype, shape, device, writability, alignment and overlap is tested here and nowhere else,
// before anything is written; every message names the operation, the argument, what was given, what
// was expected and, where there is one, the cure.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "bind/target.h"
#include "bind/view.h"
#include "core/backend.h"
#include "core/signature.h"

namespace onepass::bind {

// An argument that has been read.
struct Array : View {
  const char* op = nullptr;
  const char* name = nullptr;
  int64_t index = -1;  // in a list of arrays
  PyObject* object = nullptr;
  py::object made;  // the same, where it was made for this call

  explicit operator bool() const { return object != nullptr; }
  std::string label() const;  // 'params[3]'
};

// ---- messages

[[noreturn]] void type_error(const char* op, const std::string& text);
[[noreturn]] void value_error(const char* op, const std::string& text);
std::string shape_text(const int64_t* shape, int ndim);
inline std::string shape_text(const View& v) { return shape_text(v.shape, v.ndim); }
std::string dtype_text(const Array& a);
std::string repr(PyObject* object);

// ---- arrays

// Reads an argument; TypeError unless it is an array.
void open(Array* a, const char* op, const char* name, PyObject* object, int64_t index = -1);
// The same, but None leaves the Array empty (false).
void open_optional(Array* a, const char* op, const char* name, PyObject* object);

// Those that a call makes (result.cpp): of the library and on the device of `like`.
// Where a result goes: into the array given, or where that is None into a new one like `like`.
void open_result(Array* a, const char* op, const char* name, PyObject* given, const Array& like);
// New, in C order, of the type that `like` computes in, or (for shape only) of its own dtype.
void make(Array* a, const char* op, const char* name, const int64_t* shape, int ndim,
          const Array& like, bool computing = true);
// Reads an argument, or a copy of it where it is not dense in C order.
void open_dense(Array* a, const char* op, const char* name, PyObject* object);
// The values in another dtype, by the array's library.
py::object convert(const Array& a, const char* dtype);
// A 0-d value of the type that `like` computes in.
py::object scalar(double value, const Array& like);

// All arrays on one device, and that device usable. Comes first: the other checks read what an
// array on an unusable device cannot tell. Absent arrays are passed over.
void check_one_device(const Array* arrays, int count);
// The same, and where the call will run.
Target check_device(const Array* arrays, int count);
// The streams of the arrays are ordered before the target's: for arrays that check_device was not
// given.
void add_stream(Target* target, const Array& a);

void check_floating(const Array& a);
void check_dtype_like(const Array& a, const Array& like);
// The dtype of `like` or the type it computes in.
void check_channel_dtype(const Array& a, const Array& like);
void check_shape_like(const Array& a, const Array& like);
void check_shape(const Array& a, const int64_t* shape, int ndim, const char* why);
void check_dense(const Array& a);
// Not read-only, no two elements in one place.
void check_writable(const Array& a);
// `written` shares no memory with `other`, unless it is exactly the same and that is allowed.
void check_overlap(const Array& written, const Array& other, bool exact_alias_allowed);

// Whether any byte belongs to both: exact, or true where that would take too long to find out.
bool overlap(const View& a, const View& b);
// The same elements in the same places.
bool same_memory(const View& a, const View& b);
// The bytes [low, high) between the first and the last element.
struct Extent {
  uintptr_t low, high;
};
Extent extent_of(const View& v);

DType computing_type(DType t);

// ---- memory that no kernel can address

// Aligned dense copies of arrays whose elements are not at multiples of their size, or which must
// be dense and are not. load() copies in and turns the Array into its copy, store() copies back
// what is written. The only copies the border makes. On a device the array's own library makes them
// where it can, and what is written must be dense already.
class Staging {
 public:
  void load(Array* a, bool writes);
  void load_misaligned(Array* a, bool writes) {
    if (misaligned(*a)) load(a, writes);
  }
  void store();
  static bool misaligned(const View& v);

 private:
  struct Copy {
    View original;
    std::vector<int64_t> dims;   // the copy's shape and strides
    std::vector<double> memory;  // aligned for every element type
    bool writes;
  };
  void load_on_device(Array* a, bool writes);
  std::vector<Copy> copies_;
  std::vector<py::object> made_;  // by libraries
};

// Zeroes every element; CPU only.
void fill_zero(const Array& a);

// ---- layout of elementwise calls

// Operands of one shape as few dimensions as possible; dense ones have null strides.
struct Layout {
  int64_t size;
  int32_t ndim;
  int64_t shape[kMaxDims];
  int64_t strides[kMaxOperands][kMaxDims];
  Operand operands[kMaxOperands];
};
// keep_order: elements keep their C-order index (for functors that draw); otherwise dimensions are
// sorted and flipped to run along the first operand's memory. Shapes are equal already.
void arrange(Layout* layout, const Array* arrays, int count, bool keep_order);

// ---- scalars

double real(const char* op, const char* name, PyObject* object);
uint64_t unsigned_64(const char* op, const char* name, PyObject* object);
int64_t signed_64(const char* op, const char* name, PyObject* object);
bool boolean(const char* op, const char* name, PyObject* object);
// Valid as long as the object.
std::string_view string(const char* op, const char* name, PyObject* object);
DropoutStream random_stream(const char* op, const char* name, PyObject* p, PyObject* seed,
                            PyObject* offset);

// ---- running

// Tells torch that a tensor was written in place, which its autograd counts.
void mark_written(const Array& a);
void mark_written(py::handle tensors);

}  // namespace onepass::bind
