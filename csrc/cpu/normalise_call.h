// One call of batch norm or bias as the passes see it: what it works on, how it is cut, where the
// gradient of the affine part (g) is kept, and g of a run of elements.
#pragma once
#include "core/normalise.h"
#include "cpu/channels.h"
#include "cpu/epilogue.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

// Arrays of at least this many bytes are beyond the second-level cache: kFarRun elements at a time,
// with the next row prefetched.
constexpr int64_t kFarBytes = 2 << 20;
constexpr int64_t kFarRun = 512;

// True if a select costs no more than a masked instruction.
#ifdef __AVX512F__
constexpr bool kMaskedLanes = true;
#else
constexpr bool kMaskedLanes = false;
#endif

struct NoFlush {
  ~NoFlush() {}
};

template <bool kNorm>
using Description = std::conditional_t<kNorm, BatchNorm, Channelwise>;

// Memory in which the sum pass can leave g for the apply pass: the residual's gradient, which
// equals g, or dx. Null if recomputing g costs less than storing it.
template <class T, bool kNorm>
void* keep_gradient(const Description<kNorm>& norm, const EpilogueRunner<T>& epilogue) {
  if (!same_dtype<T>(norm.dtype)) return nullptr;
  if (norm.dresidual) return norm.dresidual;
  if constexpr (!kNorm) {
    return norm.dx;
  } else {
    const bool recomputes = kMaskedLanes || !(epilogue.is_relu() && epilogue.drops());
    if (epilogue.composed() && recomputes) return nullptr;
    return norm.batch_statistics && norm.dx != norm.x ? norm.dx : nullptr;
  }
}

template <class T, bool kNorm, bool kForward>
struct Call {
  static constexpr bool kBackward = !kForward;
  using Flush = std::conditional_t<kNorm, FlushDenormals, NoFlush>;
  // Mean and scale of a norm; a bias has neither.
  template <class P>
  using Factor = std::conditional_t<kNorm, P, Absent>;

  const Description<kNorm>& norm;
  Cut cut;
  EpilogueRunner<T> epilogue;
  bool stream;                // y bypasses the caches
  bool far;                   // the arrays are beyond the second-level cache
  void* kept_gradient;        // memory for g between the passes; null: g is computed twice
  Parameters<T> shared{};     // of all units
  double* partial = nullptr;  // [block][s, q][unit]; null: each region holds whole channels
  uint32_t* drawn = nullptr;  // all keep bits; null: each pass draws its own

  explicit Call(const Description<kNorm>& description)
      : norm(description),
        cut(norm.inner >= kLongPlane ? cut_planes(norm, (kForward ? 1 : 2) * size_of(norm.dtype))
                                     : cut_columns(norm)),
        epilogue(norm.epilogue),
        stream(kForward && same_dtype<T>(norm.dtype) && bytes() >= kStreamBytes &&
               norm.y != norm.x && norm.y != norm.epilogue.residual),
        far(bytes() >= kFarBytes),
        kept_gradient(kForward ? nullptr : keep_gradient<T, kNorm>(norm, epilogue)) {}

  int64_t elements() const { return norm.outer * norm.channels * norm.inner; }
  int64_t bytes() const { return elements() * int64_t(sizeof(T)); }

  ONEPASS_HD NormalisePasses passes() const {
    const bool parameters = norm.dweight.data || norm.dbias.data;
    return {kNorm,     kBackward, uses_batch(), norm.dx != nullptr, norm.dresidual != nullptr,
            parameters};
  }
  ONEPASS_HD bool uses_batch() const {
    if constexpr (kNorm) return norm.batch_statistics;
    return false;
  }
  bool statistics() const { return passes().statistics(); }
  bool corrects() const { return passes().corrects(); }
  bool sums() const { return passes().sums(); }
  bool applies() const { return passes().applies(); }

  int64_t element(int64_t row, int64_t unit) const { return (row * cut.units + unit) * cut.unit; }
  // Where the run of memory ends in which the elements of a region follow each other.
  int64_t run_end(const Region& r, int64_t row) const {
    const bool whole = r.units() == cut.units;
    const int64_t last = whole ? r.row_end - 1 : row;
    return element(last, unit_end_in_row(cut, r, last));
  }

  // g is dy itself, and the sum pass need not write it.
  bool passes_gradient() const {
    return epilogue.is_identity() && !epilogue.drops() && !delivers();
  }
  // Memory of the computing type to write g to, if there is any.
  T* direct_gradient() const { return static_cast<T*>(kept_gradient); }
  bool delivers() const { return passes().writes_gradient(); }
  // The leaf that sums also computes g.
  bool fuses() const {
    return kNorm && kBackward && epilogue.composed() && !passes_gradient() &&
           !norm.epilogue.residual && !delivers() && same_dtype<T>(norm.dtype);
  }

  template <class P>
  static ONEPASS_HD Factor<P> factor(P p) {
    if constexpr (kNorm) {
      return p;
    } else {
      (void)p;
      return {};
    }
  }

  // g of elements [at, at + n), n <= kBlockElements.
  template <class P>
  void gradient(int64_t at, int64_t n, int64_t end, Factor<P> mean, Factor<P> scale, P shift,
                KeepBits& bits, T* g) const {
    T x_scratch[kBlockElements], dy_scratch[kBlockElements], residual_scratch[kBlockElements];
    const T* dy = fetch<T>(norm.dy, norm.dtype, at, n, dy_scratch);
    const T* x = nullptr;
    const T* residual = nullptr;
    if (norm.epilogue.activation != Epilogue::kIdentity) {
      x = fetch<T>(norm.x, norm.dtype, at, n, x_scratch);
      if (norm.epilogue.residual)
        residual = fetch<T>(norm.epilogue.residual, norm.dtype, at, n, residual_scratch);
    }
    const uint32_t* words = epilogue.drops() ? bits.at(at, n, end) : nullptr;
    T z[kBlockElements];
    epilogue.template backward<Flush>(n, dy, x, residual, mean, scale, shift, words, z, g);
  }

  // Prefetches a run of `data`: the hardware prefetcher loses track of short runs with large gaps.
  template <int kWrite>
  ONEPASS_HD void ask_for(const void* data, int64_t at, int64_t n) const {
    const int64_t size = size_of(norm.dtype);
    const char* from = static_cast<const char*>(data) + at * size;
    for (int64_t i = 0; i < n * size; i += 64) __builtin_prefetch(from + i, kWrite, 2);
  }
};

}  // namespace normalise
}  // namespace
ONEPASS_END
