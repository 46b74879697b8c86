#include "cpu/blocks.h"

#include "cpu/halves.h"

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

// What load_run and store_run make of dense elements, where the processor converts several at once.
template <class S, class T>
void load_dense(T* to, const S* from, int64_t n) {
  if constexpr (std::is_same_v<S, Half> && sizeof(T) == 4) {
    load_halves(to, from, n);
  } else {
    load_run<S, T>(to, from, 1, n);
  }
}
template <class S, class T>
void store_dense(S* to, const T* from, int64_t n) {
  if constexpr (std::is_same_v<S, Half> && sizeof(T) == 4) {
    store_halves(to, from, n);
  } else {
    store_run<S, T>(to, from, 1, n);
  }
}

template <class S, class T>
void load_from(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n, T* to) {
  for_runs<S>(tensor, operand, begin, n,
              [to](const S* from, int64_t stride, int64_t at, int64_t k) {
                if (stride == 1) return load_dense<S, T>(to + at, from, k);
                load_run<S, T>(to + at, from, stride, k);
              });
}
template <class S, class T>
void store_to(const Tensor& tensor, const Operand& operand, int64_t begin, int64_t n,
              const T* from) {
  for_runs<S>(tensor, operand, begin, n, [from](S* to, int64_t stride, int64_t at, int64_t k) {
    if (stride == 1) return store_dense<S, T>(to, from + at, k);
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

// The instructions take no notice of flushed subnormals. They keep the payload of a NaN, where
// from_float() has one NaN.
void load_halves(float* to, const Half* from, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(to + i,
                     _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
#endif
  load_run<Half, float>(to + i, from + i, 1, n - i);
}
void store_halves(Half* to, const float* from, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  const __m128i sign = _mm_set1_epi16(int16_t(0x8000)), inf = _mm_set1_epi16(0x7c00);
  const __m128i nan = _mm_set1_epi16(0x7e00);
  for (; i + 8 <= n; i += 8) {
    const __m128i half =
        _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m128i is_nan = _mm_cmpgt_epi16(_mm_andnot_si128(sign, half), inf);
    const __m128i one_nan = _mm_or_si128(_mm_and_si128(sign, half), nan);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm_blendv_epi8(half, one_nan, is_nan));
  }
#endif
  store_run<Half, float>(to + i, from + i, 1, n - i);
}

void stream_run(float* to, const float* from, int64_t n) { stream<float>(to, from, n); }
void stream_run(double* to, const double* from, int64_t n) { stream<double>(to, from, n); }
void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

ONEPASS_END
