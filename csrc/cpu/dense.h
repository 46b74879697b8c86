// Access to dense memory for the norm and row drivers. fetch() returns a run of an array in the
// computing type: in place if it is stored so, else converted into scratch. put() is its inverse.
// load_channels() and store_channels() convert channel vectors of any dtype to and from double.
#pragma once
#include "core/sizes.h"
#include "cpu/blocks.h"
#include "cpu/halves.h"

ONEPASS_BEGIN
namespace {

// Elements [at, at + n) as T: in place where they are, else converted into scratch.
template <class T>
const T* fetch(const void* data, DType dtype, int64_t at, int64_t n, T* scratch) {
  if (dtype == DType::f16) {
    const Half* const from = static_cast<const Half*>(data) + at;
    if constexpr (sizeof(T) == 4) {
      load_halves(scratch, from, n);
    } else {
      load_run<Half, T>(scratch, from, 1, n);
    }
    return scratch;
  }
  if (dtype == DType::bf16) {
    load_run<BFloat16, T>(scratch, static_cast<const BFloat16*>(data) + at, 1, n);
    return scratch;
  }
  return static_cast<const T*>(data) + at;
}
template <class T>
void put(void* data, DType dtype, int64_t at, int64_t n, const T* from) {
  if (dtype == DType::f16) {
    Half* const to = static_cast<Half*>(data) + at;
    if constexpr (sizeof(T) == 4) {
      store_halves(to, from, n);
    } else {
      store_run<Half, T>(to, from, 1, n);
    }
  } else if (dtype == DType::bf16) {
    store_run<BFloat16, T>(static_cast<BFloat16*>(data) + at, from, 1, n);
  } else if (static_cast<T*>(data) + at != from) {
    store_run<T, T>(static_cast<T*>(data) + at, from, 1, n);
  }
}

// Elements of channel vectors as doubles; `otherwise` where there is no vector.
[[maybe_unused]] void load_channels(const ChannelVector& v, int64_t channel, int64_t n,
                                    double otherwise, double* out) {
  if (!v.data) {
    for (int64_t i = 0; i < n; ++i) out[i] = otherwise;
    return;
  }
  const int64_t size = size_of(v.dtype);
  const void* from = static_cast<const char*>(v.data) + channel * size;
  switch (v.dtype) {
    case DType::f32:
      return load_run<float, double>(out, static_cast<const float*>(from), 1, n);
    case DType::f64:
      return load_run<double, double>(out, static_cast<const double*>(from), 1, n);
    case DType::f16:
      return load_run<Half, double>(out, static_cast<const Half*>(from), 1, n);
    case DType::bf16:
      break;
  }
  load_run<BFloat16, double>(out, static_cast<const BFloat16*>(from), 1, n);
}
[[maybe_unused]] void store_channels(const ChannelVector& v, int64_t channel, int64_t n,
                                     const double* from) {
  if (!v.data) return;
  void* to = static_cast<char*>(v.data) + channel * size_of(v.dtype);
  switch (v.dtype) {
    case DType::f32:
      return store_run<float, double>(static_cast<float*>(to), from, 1, n);
    case DType::f64:
      return store_run<double, double>(static_cast<double*>(to), from, 1, n);
    case DType::f16:
      return store_run<Half, double>(static_cast<Half*>(to), from, 1, n);
    case DType::bf16:
      return store_run<BFloat16, double>(static_cast<BFloat16*>(to), from, 1, n);
  }
}
// The gradients of channels without elements.
[[maybe_unused]] void zero_channels(const ChannelVector& v, int64_t channels) {
  char* const bytes = static_cast<char*>(v.data);
  for (int64_t i = 0; bytes && i < channels * size_of(v.dtype); ++i) bytes[i] = 0;
}

}  // namespace
ONEPASS_END
