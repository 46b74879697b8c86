#include "cpu/blocks.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

ONEPASS_BEGIN
namespace {

// Walks elements [begin, begin + n) of a tensor in C order and calls, for each run along the last
// axis, run(pointer to the first element, stride, position in the block, length).
template <class S, class Run>
ONEPASS_HD void for_runs(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n,
                         Run run) {
  S* data = static_cast<S*>(operand.data);
  if (!operand.strides) return run(data + begin, 1, 0, n);
  const int last = tensor.ndim - 1;
  int64_t index[kMaxDims];
  int64_t rest = begin, offset = 0;
  for (int d = last; d >= 0; --d) {
    index[d] = rest % tensor.shape[d];
    rest /= tensor.shape[d];
    offset += index[d] * operand.strides[d];
  }
  for (int64_t done = 0; done < n;) {
    const int64_t left = tensor.shape[last] - index[last];
    const int64_t length = left < n - done ? left : n - done;
    run(data + offset, operand.strides[last], done, length);
    done += length;
    index[last] += length;
    offset += length * operand.strides[last];
    for (int d = last; d > 0 && index[d] == tensor.shape[d]; --d) {
      offset += operand.strides[d - 1] - index[d] * operand.strides[d];
      index[d] = 0;
      ++index[d - 1];
    }
  }
}

template <class S, class T>
void load_from(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n, T* to) {
  for_runs<S>(tensor, operand, begin, n,
              [to](const S* from, int64_t stride, int64_t at, int64_t k) {
                load_run<S, T>(to + at, from, stride, k);
              });
}
template <class S, class T>
void store_to(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n,
              const T* from) {
  for_runs<S>(tensor, operand, begin, n, [from](S* to, int64_t stride, int64_t at, int64_t k) {
    store_run<S, T>(to, from + at, stride, k);
  });
}

template <class T>
void load(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n, T* to) {
  switch (operand.dtype) {
    case DType::f32:
      return load_from<float, T>(tensor, operand, begin, n, to);
    case DType::f64:
      return load_from<double, T>(tensor, operand, begin, n, to);
    case DType::f16:
      return load_from<Half, T>(tensor, operand, begin, n, to);
    case DType::bf16:
      return load_from<BFloat16, T>(tensor, operand, begin, n, to);
  }
}
template <class T>
void store(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n, const T* from) {
  switch (operand.dtype) {
    case DType::f32:
      return store_to<float, T>(tensor, operand, begin, n, from);
    case DType::f64:
      return store_to<double, T>(tensor, operand, begin, n, from);
    case DType::f16:
      return store_to<Half, T>(tensor, operand, begin, n, from);
    case DType::bf16:
      return store_to<BFloat16, T>(tensor, operand, begin, n, from);
  }
}

template <class T>
void stream(T* to, const T* from, int64_t n) {
  int64_t i = 0;
#if defined(__AVX512F__)
  constexpr int64_t kLine = 64 / int64_t(sizeof(T));
  for (; i < n && (reinterpret_cast<uintptr_t>(to + i) & 63); ++i) to[i] = from[i];
  for (; i + kLine <= n; i += kLine)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
#elif defined(__AVX2__)
  constexpr int64_t kLine = 32 / int64_t(sizeof(T));
  for (; i < n && (reinterpret_cast<uintptr_t>(to + i) & 31); ++i) to[i] = from[i];
  for (; i + kLine <= n; i += kLine)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
#elif defined(__SSE2__)
  constexpr int64_t kLine = 16 / int64_t(sizeof(T));
  for (; i < n && (reinterpret_cast<uintptr_t>(to + i) & 15); ++i) to[i] = from[i];
  for (; i + kLine <= n; i += kLine)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
#endif
  for (; i < n; ++i) to[i] = from[i];
}

}  // namespace

void load_block(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n, float* to) {
  load<float>(tensor, operand, begin, n, to);
}
void load_block(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n,
                double* to) {
  load<double>(tensor, operand, begin, n, to);
}
void store_block(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n,
                 const float* from) {
  store<float>(tensor, operand, begin, n, from);
}
void store_block(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n,
                 const double* from) {
  store<double>(tensor, operand, begin, n, from);
}
void load_block(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n,
                BFloat16* to) {
  load_from<BFloat16, BFloat16>(tensor, operand, begin, n, to);
}
void store_block(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n,
                 const BFloat16* from) {
  store_to<BFloat16, BFloat16>(tensor, operand, begin, n, from);
}

void stream_run(float* to, const float* from, int64_t n) { stream<float>(to, from, n); }
void stream_run(double* to, const double* from, int64_t n) { stream<double>(to, from, n); }
void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

ONEPASS_END
