// The loops of cpu/streams.h.
#include "cpu/streams.h"

#include <utility>

#include "core/hd.h"
#include "cpu/unit.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

ONEPASS_BEGIN
namespace {

// A cache line anywhere in memory.
typedef uint32_t Line __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int64_t kLine = 16;

ONEPASS_HD void stream_line(uint32_t* to, const Line& line) {
  const char* from = reinterpret_cast<const char*>(&line);
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_loadu_si512(from));
#elif defined(__AVX2__)
  for (int part = 0; part < 2; ++part)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to) + part,
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from) + part));
#elif defined(__SSE2__)
  for (int part = 0; part < 4; ++part)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to) + part,
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + part));
#else
  *reinterpret_cast<Line*>(to) = *reinterpret_cast<const Line*>(from);
#endif
}

template <size_t>
using In = const uint32_t*;
template <size_t>
using Out = uint32_t*;

template <class Reads, class Writes, class Updates>
struct Loops;
template <size_t... R, size_t... W, size_t... U>
struct Loops<std::index_sequence<R...>, std::index_sequence<W...>, std::index_sequence<U...>> {
  static constexpr bool kOnlyReads = sizeof...(W) + sizeof...(U) == 0;

  [[gnu::noinline]] static uint32_t plain(int64_t n, In<R>... in, Out<W>... out, Out<U>... at) {
    uint32_t all = 0;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t v = (kStreamMark ^ ... ^ in[i]);
      ((out[i] = v), ...);
      ((at[i] ^= v), ...);
      if constexpr (kOnlyReads) all ^= v;
    }
    return all;
  }

  // n is a number of whole lines.
  [[gnu::noinline]] static void past_caches(int64_t n, In<R>... in, Out<W>... out, Out<U>... at) {
    const Line mark = Line{} + kStreamMark;
    for (int64_t i = 0; i < n; i += kLine) {
      const Line v = (mark ^ ... ^ *reinterpret_cast<const Line*>(in + i));
      (stream_line(out + i, v), ...);
      ((*reinterpret_cast<Line*>(at + i) ^= v), ...);
    }
#if defined(__SSE2__)
    _mm_sfence();
#endif
  }

  static uint32_t piece(const Streams& streams, int64_t begin, int64_t n, bool stream) {
    int64_t streamed = 0;
    if constexpr (sizeof...(W) > 0) {
      if (stream) {
        streamed = n / kLine * kLine;
        past_caches(streamed, (streams.reads[R] + begin)..., (streams.writes[W] + begin)...,
                    (streams.updates[U] + begin)...);
        begin += streamed;
      }
    }
    return plain(n - streamed, (streams.reads[R] + begin)..., (streams.writes[W] + begin)...,
                 (streams.updates[U] + begin)...);
  }
};

template <size_t I>
using LoopsOf = Loops<std::make_index_sequence<size_t(kStreamShapes[I].reads)>,
                      std::make_index_sequence<size_t(kStreamShapes[I].writes)>,
                      std::make_index_sequence<size_t(kStreamShapes[I].updates)>>;

template <size_t... I>
void fill(StreamTable* table, std::index_sequence<I...>) {
  ((table->loops[I] = &LoopsOf<I>::piece), ...);
}

}  // namespace
ONEPASS_END

extern "C" void ONEPASS_UNIT_NAME(streams, ONEPASS_ISA)(onepass::StreamTable* table) {
  onepass::ONEPASS_ISA::fill(table, std::make_index_sequence<onepass::kStreamShapeCount>());
}
