// Moves blocks of elements between memory of any dtype and layout and first-level-cache scratch of
// the computing type, for every driver. Drivers use dense memory that already holds the computing
// type where it is (is_direct).
#pragma once
#include <type_traits>

#include "core/backend.h"
#include "core/dtype.h"
#include "core/hd.h"
#include "core/math.h"
#include "cpu/parallel.h"

ONEPASS_BEGIN

// Elements [begin, begin + n) of a tensor in C order. blocks.cpp compiles these once for a level,
// so that no unit of a formula does.
void load_block(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n, float* to);
void load_block(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n, double* to);
void store_block(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n,
                 const float* from);
void store_block(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n,
                 const double* from);
// The same of a bfloat16 operand, as it is stored.
void load_block(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n,
                BFloat16* to);
void store_block(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n,
                 const BFloat16* from);

// Copies past the caches, for outputs that leave them before anything reads them: a plain store
// first reads the line that it overwrites. Call stream_fence() before other threads read.
void stream_run(float* to, const float* from, int64_t n);
void stream_run(double* to, const double* from, int64_t n);
void stream_fence();

namespace {

// The storage types of a computing type: itself, and for float the two 16-bit ones.
template <class T>
ONEPASS_HD bool same_dtype(DType d) {
  return d == (sizeof(T) == 8 ? DType::f64 : DType::f32);
}

template <class S, class T>
ONEPASS_HD T load_as(S s) {
  if constexpr (std::is_same_v<S, T>) {
    return s;
  } else if constexpr (sizeof(S) == 2) {
    return T(to_float(s));
  } else {
    return T(s);
  }
}
template <class S, class T>
ONEPASS_HD S store_as(T v) {
  if constexpr (std::is_same_v<S, T>) {
    return v;
  } else if constexpr (sizeof(S) == 2) {
    return from_float<S>(float(v));
  } else {
    return S(v);
  }
}

template <class S, class T>
void load_run(T* to, const S* from, int64_t stride, int64_t n) {
  if (stride == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) to[i] = load_as<S, T>(from[i]);
  } else if (stride == 0) {
    const T value = load_as<S, T>(*from);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) to[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = load_as<S, T>(from[i * stride]);
  }
}
template <class S, class T>
void store_run(S* to, const T* from, int64_t stride, int64_t n) {
  if (stride == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) to[i] = store_as<S, T>(from[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i * stride] = store_as<S, T>(from[i]);
  }
}

template <class T>
ONEPASS_HD bool is_direct(const Operand& operand) {
  return !operand.strides && same_dtype<T>(operand.dtype);
}

// Elements from the start of p's cache line to p.
template <class T>
ONEPASS_HD int64_t past_line(const T* p) {
  return int64_t((reinterpret_cast<uintptr_t>(p) & 63) / sizeof(T));
}
// Whether a write-only output of so many bytes is streamed: from several times any last-level cache
// that two cores have to themselves, where several threads use up the memory's rate. One thread
// alone does not, and its streaming stores keep the arithmetic waiting.
inline bool is_streamed(int64_t bytes) {
  return bytes >= int64_t(48) << 20 && get_num_threads() > 1;
}

}  // namespace
ONEPASS_END
