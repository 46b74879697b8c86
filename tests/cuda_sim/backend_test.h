// Arrays and calls that the files backend_test*.cpp share, and their parts. A part appends the bits
// of its results.
#pragma once
#ifndef ONEPASS_ISA
#define ONEPASS_ISA cuda
#endif
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/backend.h"

extern "C" const onepass::Backend* onepass_cuda_backend();

namespace backend_test {

using namespace onepass;

inline const Backend& cuda = *onepass_cuda_backend();
// Whether the backend itself skips steps and finds bad labels; the CPU's caller does both.
inline bool on_device = true;

[[noreturn]] inline void fail(const std::string& what) {
  std::printf("%s\n", what.c_str());
  std::exit(1);
}
inline void check(bool fine, const std::string& what) {
  if (!fine) fail(what);
}

// An array of its own heap block, `lead` elements behind an aligned address, so that a sanitizer
// sees the first byte beyond. Values are small, of both signs.
class Buffer {
 public:
  Buffer(DType dtype, int64_t size, unsigned seed, int lead = 0)
      : dtype_(dtype), size_(size), bytes_(size_t((size + lead) * size_of(dtype))) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, bytes_) != 0) fail("no memory");
    data_ = static_cast<char*>(memory) + lead * size_of(dtype);
    for (int64_t i = 0; i < size; ++i) set(i, value(seed * 7919 + unsigned(i)));
  }
  void* data() const { return data_; }
  Operand operand(const int64_t* strides = nullptr) const { return {data_, dtype_, strides}; }
  ChannelVector vector() const { return {data_, dtype_}; }
  // All NaN are one: the sign of a NaN that an operation makes is the processor's own.
  void append_to(std::string* all) const {
    const size_t item = size_t(size_of(dtype_));
    for (int64_t i = 0; i < size_; ++i)
      is_nan(i) ? all->append(item, '\xff') : all->append(data_ + size_t(i) * item, item);
  }
  double get(int64_t i) const {
    if (dtype_ == DType::f64) return reinterpret_cast<const double*>(data_)[i];
    return double(reinterpret_cast<const float*>(data_)[i]);
  }
  void set(int64_t i, double v) {
    switch (dtype_) {
      case DType::f64:
        reinterpret_cast<double*>(data_)[i] = v;
        return;
      case DType::f32:
        reinterpret_cast<float*>(data_)[i] = float(v);
        return;
      case DType::f16:  // of 1/8 to 1 in steps that the format has
        reinterpret_cast<uint16_t*>(data_)[i] = uint16_t(0x3000 + (int(v * 512) & 0x8bff));
        return;
      case DType::bf16: {
        const float f = float(v);
        uint32_t bits;
        std::memcpy(&bits, &f, 4);
        reinterpret_cast<uint16_t*>(data_)[i] = uint16_t(bits >> 16);
      }
    }
  }

 private:
  bool is_nan(int64_t i) const {
    switch (dtype_) {
      case DType::f64:
        return std::isnan(reinterpret_cast<const double*>(data_)[i]);
      case DType::f32:
        return std::isnan(reinterpret_cast<const float*>(data_)[i]);
      default:
        const int bits = reinterpret_cast<const uint16_t*>(data_)[i] & 0x7fff;
        return bits > (dtype_ == DType::f16 ? 0x7c00 : 0x7f80);
    }
  }
  static double value(unsigned n) {
    n = n * 2654435761u;
    return double((n >> 8) % 4001) / 1000.0 - 2.0;
  }
  DType dtype_;
  int64_t size_;
  size_t bytes_;
  char* data_;  // kept until the program ends
};

template <class C>
inline void run(const char* name, void (*function)(const C&), int64_t bytes, C call) {
  std::vector<uint64_t> memory(size_t(bytes) / 8 + 2, ~uint64_t(0));
  auto at = reinterpret_cast<uintptr_t>(memory.data());
  call.workspace = reinterpret_cast<void*>((at + 15) / 16 * 16);
  function(call);
  const char* error = cuda.last_error();
  if (error) fail(std::string(name) + ": " + error);
}

// One order and one dtype under ThreadSanitizer, where every simulated thread costs 0.3 ms.
inline const bool kBrief = std::getenv("ONEPASS_TEST_BRIEF") != nullptr;
inline std::vector<DType> dtypes() {
  if (kBrief) return {DType::f32};
  return {DType::f32, DType::f64, DType::f16, DType::bf16};
}
// Values of a row of `size` hyper-parameters, whatever rule it belongs to.
inline std::vector<double> options_of(size_t size) {
  std::vector<double> row = {0.1, 0.9, 0.99, 0.01, 0.1, 3, 2, 3, 2};
  row.resize(size, 3);
  return row;
}
inline const std::vector<double> kOptions = options_of(12);

inline const GradientRider kPlain;
inline DType computing(DType d) { return d == DType::f64 ? DType::f64 : DType::f32; }

inline Tensor tensor_of(int64_t size, DType d, const std::vector<Operand>& operands,
                        const int64_t* shape = nullptr) {
  Tensor t;
  t.size = size;
  t.shape = shape;
  t.ndim = shape ? 2 : 1;
  t.computing = d;
  t.operands = operands.data();
  return t;
}
inline Elementwise call_on(const std::vector<Tensor>& tensors, const std::vector<double>& hyper,
                           int64_t rows = 1) {
  Elementwise call;
  call.tensors = tensors.data();
  call.count = int64_t(tensors.size());
  call.hyper = hyper.data();
  call.hyper_rows = rows;
  call.hyper_size = int64_t(hyper.size()) / rows;
  return call;
}
inline GlobalNorm norm_of(const std::vector<Tensor>& tensors, GlobalNormResult* result) {
  GlobalNorm call;
  call.tensors = tensors.data();
  call.count = int64_t(tensors.size());
  call.result = result;
  return call;
}

// Calls function on a list of tensors of several sizes, one misaligned, one strided.
void elementwise(const char* name, Run<Elementwise> function, int arity, DType dtype,
                 std::vector<double> hyper, const GradientRider& rider, std::string* bits,
                 int64_t lists = 1, bool measures = false, int64_t repeat = 1);

// Activations that the norms' kernels hold (cuda/epilogue.cuh).
#ifdef ONEPASS_SIM_FEW
inline constexpr int kHeld = 3;
#else
inline constexpr int kHeld = 7;
#endif

// The parts: backend_test_<part>.cpp
void elementwise_part(std::string* bits);
void masks_part(std::string* bits);
void updates_part(std::string* bits);
void counted_steps_part(std::string* bits);
void stages_part(std::string* bits);
void kept_part(std::string* bits);
void global_norm_part(std::string* bits);
void factors_part(std::string* bits);
void channel_norms_part(std::string* bits);
void row_norms_part(std::string* bits);
void row_losses_part(std::string* bits);
void pointwise_losses_part(std::string* bits);
void softmax_part(std::string* bits);
void windows_part(std::string* bits);

}  // namespace backend_test
