// A call by XLA, as its handlers see it: buffers, attributes, and errors with words. Handlers are
// written against the C interface of XLA alone (third_party/xla), of the oldest version that is
// supported: a runtime accepts handlers that are older than itself.
//
// XLA runs handlers on threads of its own, several at a time. Nothing here is written after
// registration, which one thread does (python/onepass/jax/_targets.py), Python is called by
// muon.cpp alone, and the pool that runs the kernels serves one call at a time: chunks of another
// one run on the thread that it came on.
#pragma once
#include <xla/ffi/api/c_api.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "core/lent.h"

namespace onepass::jax {

// A dense array of a call, in C order.
struct Buffer {
  void* data = nullptr;
  XLA_FFI_DataType type = XLA_FFI_DataType_INVALID;
  const int64_t* shape = nullptr;
  int64_t ndim = 0;

  // Of the axes from `first` to before `last`.
  int64_t extent(int64_t first, int64_t last) const {
    int64_t n = 1;
    for (int64_t d = first; d < last; ++d) n *= shape[d];
    return n;
  }
  int64_t size() const { return extent(0, ndim); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// The message of a refused call, behind the name in the attribute "op".
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Of the frame that it is made from, and valid as long.
class Frame {
 public:
  explicit Frame(const XLA_FFI_CallFrame& frame) : frame_(frame) {}

  int64_t arguments() const { return frame_.args.size; }
  int64_t results() const { return frame_.rets.size; }
  Buffer argument(int64_t i) const;
  Buffer result(int64_t i) const;

  // Attributes: what is known when a function is compiled.
  int64_t integer(const char* name) const;
  double real(const char* name) const;
  // Null and 0 where it was left out.
  const double* reals(const char* name, int64_t* count) const;
  std::string text(const char* name) const;  // empty where it was left out

  // A number in an argument: one float of any dtype, or the two words of a double's bits, since
  // without x64 JAX has no doubles.
  double number(int64_t argument) const;
  // A whole number of 64 bits: one integer, or two words, the low one first.
  uint64_t word(int64_t argument) const;
  // p, seed, offset and first, which are arguments one after the other.
  DropoutStream dropout(int64_t argument) const;

 private:
  const void* attribute(const char* name, XLA_FFI_AttrType type) const;

  const XLA_FFI_CallFrame& frame_;
};

// Refused unless it is a floating one.
DType dtype_of(const Buffer& buffer);
Operand operand_of(const Buffer& buffer);
ChannelVector vector_of(const Buffer& buffer);
inline DType computing_type(DType t) { return t == DType::f64 ? DType::f64 : DType::f32; }

// A number in a message.
std::string shown(double value);

// What _C has lent.
const Lent& lent();
// `release` stands for what numbers of kernels and orders of arguments mean: each call says for
// which one it was made.
void set_lent(const Lent* lent, int64_t release);

// What calls one after the other work in: aligned to doubles, of any content.
class Workspace {
 public:
  void* of(int64_t bytes) {
    if (bytes > bytes_) {
      memory_.reset(new double[size_t(bytes) / sizeof(double) + 1]);
      bytes_ = bytes;
    }
    return memory_.get();
  }

 private:
  std::unique_ptr<double[]> memory_;
  int64_t bytes_ = 0;
};

// ---- handlers

// What XLA calls: the answer to what version of its interface this is for, or `run`.
XLA_FFI_Error* handle(const XLA_FFI_CallFrame& frame, void (*run)(const Frame&));
// Refuses calls of programs that another release has exported.
void check_release(const Frame& f);
template <void (*kRun)(const Frame&)>
XLA_FFI_Error* handler(XLA_FFI_CallFrame* frame) {
  return handle(*frame, [](const Frame& f) {
    check_release(f);
    kRun(f);
  });
}

// What the files of this folder do, each a target of XLA named "onepass_…".
void activation(const Frame&);
void activation_backward(const Frame&);
void dropout(const Frame&);
void bias_act(const Frame&);
void bias_act_backward(const Frame&);
void batch_norm(const Frame&);
void batch_norm_backward(const Frame&);
void row_norm(const Frame&);
void row_norm_backward(const Frame&);
void cross_entropy(const Frame&);
void update(const Frame&);
void average(const Frame&);
void muon(const Frame&);
void global_norm(const Frame&);
void unflatten(const Frame&);

}  // namespace onepass::jax
