#include "jax/frame.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <new>

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

namespace onepass::jax {
namespace {

const Lent* lent_ = nullptr;
int64_t release_ = 0;

Buffer buffer_of(const void* given) {
  const auto& b = *static_cast<const XLA_FFI_Buffer*>(given);
  return {b.data, b.dtype, b.dims, b.rank};
}

template <class T>
T value_of(const Buffer& b) {
  T value;
  std::memcpy(&value, b.data, sizeof(value));
  return value;
}

[[noreturn]] void unexpected(const char* what) {
  throw Refused(std::string("the call has ") + what + ", which no function of onepass.jax passes");
}

}  // namespace

const Lent& lent() { return *lent_; }
void set_lent(const Lent* lent, int64_t release) {
  lent_ = lent;
  release_ = release;
}

// ---- buffers

Buffer Frame::argument(int64_t i) const { return buffer_of(frame_.args.args[i]); }
Buffer Frame::result(int64_t i) const { return buffer_of(frame_.rets.rets[i]); }

DType dtype_of(const Buffer& buffer) {
  switch (buffer.type) {
    case XLA_FFI_DataType_F32:
      return DType::f32;
    case XLA_FFI_DataType_F64:
      return DType::f64;
    case XLA_FFI_DataType_F16:
      return DType::f16;
    case XLA_FFI_DataType_BF16:
      return DType::bf16;
    default:
      unexpected("an array that is not of floats");
  }
}

Operand operand_of(const Buffer& buffer) { return {buffer.data, dtype_of(buffer), nullptr}; }
ChannelVector vector_of(const Buffer& buffer) { return {buffer.data, dtype_of(buffer)}; }

// ---- attributes

const void* Frame::attribute(const char* name, XLA_FFI_AttrType type) const {
  const XLA_FFI_Attrs& all = frame_.attrs;
  for (int64_t i = 0; i < all.size; ++i) {
    const XLA_FFI_ByteSpan& own = *all.names[i];
    if (own.len != std::strlen(name) || std::memcmp(own.ptr, name, own.len) != 0) continue;
    if (all.types[i] != type) unexpected("an attribute of another type");
    return all.attrs[i];
  }
  return nullptr;
}

int64_t Frame::integer(const char* name) const {
  const auto* scalar = static_cast<const XLA_FFI_Scalar*>(attribute(name, XLA_FFI_AttrType_SCALAR));
  if (!scalar || scalar->dtype != XLA_FFI_DataType_S64)
    unexpected("no integer where there should be one");
  return *static_cast<const int64_t*>(scalar->value);
}

double Frame::real(const char* name) const {
  const auto* scalar = static_cast<const XLA_FFI_Scalar*>(attribute(name, XLA_FFI_AttrType_SCALAR));
  if (!scalar || scalar->dtype != XLA_FFI_DataType_F64)
    unexpected("no number where there should be one");
  return *static_cast<const double*>(scalar->value);
}

const double* Frame::reals(const char* name, int64_t* count) const {
  const auto* array = static_cast<const XLA_FFI_Array*>(attribute(name, XLA_FFI_AttrType_ARRAY));
  *count = array ? int64_t(array->size) : 0;
  if (!array) return nullptr;
  if (array->dtype != XLA_FFI_DataType_F64) unexpected("numbers of another type");
  return static_cast<const double*>(array->data);
}

std::string Frame::text(const char* name) const {
  const auto* span = static_cast<const XLA_FFI_ByteSpan*>(attribute(name, XLA_FFI_AttrType_STRING));
  return span ? std::string(span->ptr, span->len) : std::string();
}

// ---- numbers in arguments

double Frame::number(int64_t i) const {
  const Buffer b = argument(i);
  if (b.size() != (b.type == XLA_FFI_DataType_U32 ? 2 : 1)) unexpected("several numbers for one");
  switch (b.type) {
    case XLA_FFI_DataType_F32:
      return double(value_of<float>(b));
    case XLA_FFI_DataType_F64:
    case XLA_FFI_DataType_U32:  // the two words of one
      return value_of<double>(b);
    default:
      unexpected("a number that is not float32 or float64");
  }
}

uint64_t Frame::word(int64_t i) const {
  const Buffer b = argument(i);
  const bool two_words = b.type == XLA_FFI_DataType_U32 && b.size() == 2;
  if (b.size() != 1 && !two_words) unexpected("several numbers for one");
  const bool signed_word = b.type == XLA_FFI_DataType_S32 || b.type == XLA_FFI_DataType_S64;
  uint64_t word;
  switch (b.type) {
    case XLA_FFI_DataType_S32:
      word = uint64_t(int64_t(value_of<int32_t>(b)));
      break;
    case XLA_FFI_DataType_U32:
      word = two_words ? value_of<uint64_t>(b) : value_of<uint32_t>(b);
      break;
    case XLA_FFI_DataType_S64:
    case XLA_FFI_DataType_U64:
      word = value_of<uint64_t>(b);
      break;
    default:
      unexpected("a whole number that is not of 32 or 64 bits");
  }
  if (signed_word && int64_t(word) < 0)
    throw Refused("a seed, an offset or a 'first' is " + std::to_string(int64_t(word)) +
                  ", expected a number >= 0");
  return word;
}

DropoutStream Frame::dropout(int64_t i) const {
  const double p = number(i);
  if (!(p >= 0 && p <= 1))
    throw Refused("the probability of dropout is " + shown(p) + ", expected 0 <= p <= 1");
  const uint64_t first = word(i + 3), most = uint64_t(1) << 62;
  if (first >= most)
    throw Refused("'first' is " + std::to_string(first) + ", expected an element below 2**62");
  return {word(i + 1), word(i + 2), host::dropout_threshold(p), int64_t(first)};
}

std::string shown(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", value);
  return text;
}

// ---- handlers

namespace {

// Kernels compute as they do elsewhere: XLA has its threads flush subnormal numbers.
class UsualArithmetic {
 public:
  UsualArithmetic();
  ~UsualArithmetic();
  UsualArithmetic(const UsualArithmetic&) = delete;
  UsualArithmetic& operator=(const UsualArithmetic&) = delete;

 private:
  uint64_t saved_ = 0;
};

#ifdef __SSE2__
UsualArithmetic::UsualArithmetic() : saved_(_mm_getcsr()) {
  constexpr unsigned kDefault = 0x1f80;
  _mm_setcsr(kDefault);
}
UsualArithmetic::~UsualArithmetic() { _mm_setcsr(unsigned(saved_)); }
#elif defined(__aarch64__)
UsualArithmetic::UsualArithmetic() {
  asm volatile("mrs %0, fpcr" : "=r"(saved_));
  asm volatile("msr fpcr, %0" : : "r"(uint64_t(0)));
}
UsualArithmetic::~UsualArithmetic() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
UsualArithmetic::UsualArithmetic() = default;
UsualArithmetic::~UsualArithmetic() = default;
#endif

// Whether the frame asks what version of XLA's interface its handler was written for, and not for
// a call.
bool answers_version(const XLA_FFI_CallFrame& frame) {
  if (!frame.extension_start || frame.extension_start->type != XLA_FFI_Extension_Metadata)
    return false;
  auto* asked = reinterpret_cast<XLA_FFI_Metadata_Extension*>(frame.extension_start);
  asked->metadata->api_version = {XLA_FFI_Api_Version_STRUCT_SIZE, nullptr, XLA_FFI_API_MAJOR,
                                  XLA_FFI_API_MINOR};
  asked->metadata->traits = 0;
  return true;
}

XLA_FFI_Error* error_of(const XLA_FFI_CallFrame& frame, XLA_FFI_Error_Code code, const char* what) {
  const std::string message = Frame(frame).text("op") + ": " + what;
  XLA_FFI_Error_Create_Args args{};
  args.struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE;
  args.message = message.c_str();
  args.errc = code;
  return frame.api->XLA_FFI_Error_Create(&args);
}

}  // namespace

void check_release(const Frame& f) {
  if (f.integer("release") != release_)
    throw Refused(
        "the program was exported by another release of onepass, whose kernels have other numbers: "
        "export it anew with this one");
}

XLA_FFI_Error* handle(const XLA_FFI_CallFrame& frame, void (*run)(const Frame&)) {
  if (answers_version(frame)) return nullptr;
  try {
    const UsualArithmetic usual;
    run(Frame(frame));
    return nullptr;
  } catch (const Refused& error) {
    return error_of(frame, XLA_FFI_Error_Code_INVALID_ARGUMENT, error.what());
  } catch (const std::bad_alloc&) {
    return error_of(frame, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "there is no memory left");
  } catch (const std::exception& error) {
    return error_of(frame, XLA_FFI_Error_Code_INTERNAL, error.what());
  }
}

}  // namespace onepass::jax
