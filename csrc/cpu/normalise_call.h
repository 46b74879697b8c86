// One call of a norm or bias as its passes see it: the arrays, how they are cut, and what follows
// from both. The passes (channel_step.h, affine_gradient.h, sum_pass.h, apply_pass.h) each hold a
// reference to it.
#pragma once
#include "core/normalise.h"
#include "cpu/channels.h"
#include "cpu/epilogue.h"
#include "cpu/norm_sizes.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

// Arrays of at least this many bytes are beyond the second-level cache: kFarRun elements at a time,
// with the next row prefetched.
constexpr int64_t kFarBytes = 2 << 20;
constexpr int64_t kFarRun = 512;

struct NoFlush {
  ~NoFlush() {}
};

// Memory in which the sum pass can leave g for the apply pass: the residual's gradient, which
// equals g, or dx. Null if recomputing g costs less than storing it.
template <class R, class T, class Description>
void* keep_gradient(const Description& norm, const EpilogueRunner<R, T>& epilogue) {
  if (!same_dtype<T>(norm.dtype)) return nullptr;
  if (norm.dresidual) return norm.dresidual;
  if constexpr (!R::kScales) {
    return norm.dx;
  } else {
    if (norm.part != Part::whole) return nullptr;  // dx has nothing of the first call
    const bool recomputes = kMaskedLanes || !(epilogue.is_relu() && epilogue.drops());
    if (epilogue.composed() && recomputes) return nullptr;
    const bool overwrites = norm.dx == norm.x || norm.dx == norm.add;
    return norm.batch_statistics && !overwrites ? norm.dx : nullptr;
  }
}

// R: the rule of the elements. T: the type it computes in.
template <class R, class T, bool kForward_>
struct Call {
  using Rule = R;
  using Type = T;
  static constexpr bool kForward = kForward_, kBackward = !kForward_;
  static constexpr bool kScales = R::kScales;  // a norm, else a bias
  using Description = std::conditional_t<kScales, ChannelNorm, Channelwise>;
  using Flush = std::conditional_t<kScales, FlushDenormals, NoFlush>;
  // Mean and scale of a norm; a bias has neither.
  template <class P>
  using Factor = std::conditional_t<kScales, P, Absent>;

  const Description& norm;
  Cut cut;
  EpilogueRunner<R, T> epilogue;
  bool stream;                // y bypasses the caches
  bool far;                   // the arrays are beyond the second-level cache
  void* kept_gradient;        // memory for g between the passes; null: g is computed twice
  Parameters<T> shared{};     // of all units
  bool scaled = false;        // a channel of them is scaled (scaled_channels.h)
  double* partial = nullptr;  // [block][s, q][unit]; null: each region holds whole channels
  uint32_t* drawn = nullptr;  // all keep bits; null: each pass draws its own

  explicit Call(const Description& description)
      : norm(description),
        cut(norm.inner >= kLongPlane ? cut_planes(norm, (kForward ? 1 : 2) * size_of(norm.dtype))
                                     : cut_columns(norm)),
        epilogue(norm.epilogue),
        stream(kForward && same_dtype<T>(norm.dtype) && bytes() >= kStreamBytes &&
               norm.y != norm.x && norm.y != norm.epilogue.residual),
        far(bytes() >= kFarBytes),
        kept_gradient(kForward ? nullptr : keep_gradient(norm, epilogue)) {}

  int64_t elements() const { return norm.outer * norm.channels * norm.inner; }
  int64_t bytes() const { return elements() * int64_t(sizeof(T)); }

  ONEPASS_HD NormalisePasses passes() const {
    const bool parameters = norm.dweight.data || norm.dbias.data;
    return {kScales,    kBackward, uses_batch(), norm.dx != nullptr, norm.dresidual != nullptr,
            parameters, part()};
  }
  ONEPASS_HD Part part() const {
    if constexpr (kScales) return norm.part;
    return Part::whole;
  }
  ONEPASS_HD bool uses_batch() const {
    if constexpr (kScales) return norm.batch_statistics;
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
  KeepBits keep_bits() const { return KeepBits(norm.epilogue.dropout, drawn); }

  template <class P>
  static ONEPASS_HD Factor<P> factor(P p) {
    if constexpr (kScales) {
      return p;
    } else {
      (void)p;
      return {};
    }
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
