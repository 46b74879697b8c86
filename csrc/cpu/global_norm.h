// The driver of the global norm: the norm of a list of tensors after unscaling, and the first
// tensor that holds Inf or NaN. Deterministic: size alone cuts the list into at most kRanges
// ranges, each is summed in fixed lanes, and the ranges are added in order. A range is first summed
// in float; if that overflows or vanishes, again block by block. If even doubles overflow or vanish
// although every element is finite, the whole list is measured again, scaled by a power of two.
#pragma once
#include <math.h>

#include "core/folds.h"
#include "cpu/blocks.h"
#include "cpu/loops.h"
#include "kernels/gradient.h"

ONEPASS_BEGIN
namespace {

constexpr int64_t kRanges = 512;
constexpr int kLanes = 64;

struct Partial {
  double sum, clamped;
  int64_t first_nonfinite;
  bool any;  // some element is not zero, even if its square is
};

struct BlockSum {
  double sum;
  bool finite;
};

template <NormOrder kOrder>
ONEPASS_HD void combine(double* total, double value) {
  if constexpr (kOrder == NormOrder::inf) {
    *total = LargerOrNan{}(*total, value);
  } else {
    *total += value;
  }
}

// Adds up |v|, v² or the maximum of |v| over a block of v = clamp(g · unscale), in kLanes lanes of
// type A, which are then added in double.
template <NormOrder kOrder, class A, class T>
BlockSum sum_lanes(const T* g, int64_t n, T unscale, T max_value) {
  // Sums of at most kBlockElements floats cannot overflow double, so there a finite sum means
  // finite terms. Otherwise 0 · v is collected too: NaN once any v is Inf or NaN.
  constexpr bool kPoison = kOrder == NormOrder::inf || sizeof(T) == 8;
  A lanes[kLanes], poison[kLanes];
  for (int l = 0; l < kLanes; ++l) lanes[l] = poison[l] = A(0);
  const auto add = [&lanes, &poison](int l, A v) __attribute__((always_inline)) {
    if constexpr (kPoison) poison[l] += v * A(0);
    if constexpr (kOrder == NormOrder::inf) {
      lanes[l] = v > lanes[l] ? v : lanes[l];
    } else {
      lanes[l] += kOrder == NormOrder::two ? v * v : v;
    }
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma GCC ivdep
    for (int l = 0; l < kLanes; ++l)
      add(l, math::abs(A(clamp_gradient(g[i + l] * unscale, max_value))));
  }
  for (int l = 0; i < n; ++i, ++l) add(l, math::abs(A(clamp_gradient(g[i] * unscale, max_value))));

  // In kFolds chains: one of kLanes additions would take as long as the block.
  constexpr int kFolds = 8;
  double folds[kFolds] = {}, faults[kFolds] = {};
  for (int l = 0; l < kLanes; l += kFolds) {
    for (int f = 0; f < kFolds; ++f) {
      combine<kOrder>(&folds[f], double(lanes[l + f]));
      if constexpr (kPoison) faults[f] += double(poison[l + f]);
    }
  }
  double total = 0, bad = 0;
  for (int f = 0; f < kFolds; ++f) {
    combine<kOrder>(&total, folds[f]);
    bad += faults[f];
  }
  if (kOrder == NormOrder::inf && bad != 0) {
    for (i = 0; i < n; ++i) total = g[i] == g[i] ? total : double(g[i]);
  }
  return {total, kPoison ? bad == 0 : total - total == 0};
}

// Sums squares of floats in float. If a range check on the sum shows that some may have overflowed
// or vanished, sums them again in double.
template <NormOrder kOrder, class T>
BlockSum sum_block(const T* g, int64_t n, T unscale, T max_value) {
  if constexpr (sizeof(T) == 4 && kOrder == NormOrder::two) {
    const BlockSum quick = sum_lanes<kOrder, T>(g, n, unscale, max_value);
    if (quick.sum > 1e-20 && quick.sum < 1e30) return quick;
    return sum_lanes<kOrder, double>(g, n, unscale, max_value);
  } else {
    return sum_lanes<kOrder, std::conditional_t<kOrder == NormOrder::one, double, T>>(g, n, unscale,
                                                                                      max_value);
  }
}

// Looks at bits: a subnormal number, which flushing hides, is not zero.
template <class T>
bool all_zero(const T* g, int64_t n) {
  constexpr int64_t kStep = 512;
  for (int64_t done = 0; done < n; done += kStep) {
    const int64_t end = n - done < kStep ? n : done + kStep;
    decltype(math::to_bits(T(0))) any = 0;
    for (int64_t i = done; i < end; ++i) any |= math::to_bits(g[i]) << 1;
    if (any != 0) return false;
  }
  return true;
}

template <NormOrder kOrder, class T>
void global_norm_piece(const GlobalNorm& call, const Piece& piece, Partial* partial) {
  const Tensor& tensor = call.tensors[piece.tensor];
  const Operand& operand = tensor.operands[call.operand];
  alignas(64) T scratch[kBlockElements];
  const bool limited = call.max_value < GradientRider::kNoLimit;
  for (int64_t done = 0; done < piece.size; done += kBlockElements) {
    const int64_t n = piece.size - done < kBlockElements ? piece.size - done : kBlockElements;
    const T* g = scratch;
    if (is_direct<T>(operand)) {
      g = static_cast<const T*>(operand.data) + piece.begin + done;
    } else {
      load_block(tensor, operand, piece.begin + done, n, scratch);
    }
    const BlockSum free = sum_block<kOrder, T>(g, n, T(call.unscale), T(GradientRider::kNoLimit));
    combine<kOrder>(&partial->sum, free.sum);
    partial->any = partial->any || free.sum != 0 || !all_zero(g, n);
    if (!free.finite && partial->first_nonfinite < 0) partial->first_nonfinite = piece.tensor;
    combine<kOrder>(
        &partial->clamped,
        limited ? sum_block<kOrder, T>(g, n, T(call.unscale), T(call.max_value)).sum : free.sum);
  }
}

// Squares of g · unscale, eight rows of kLanes added in float before they meet a double. Row by
// row, in the order of memory: down the columns some processors fetch nothing ahead, and a list
// larger than their caches took up to four times as long.
void add_squares(const float* g, int64_t n, float unscale, double* lanes) {
  constexpr int kRows = 8;
  for (; n >= kRows * kLanes; n -= kRows * kLanes, g += kRows * kLanes) {
    float sum[kLanes];
#pragma GCC unroll 64
    for (int l = 0; l < kLanes; ++l) sum[l] = 0;
    for (int j = 0; j < kRows; ++j) {
#pragma GCC ivdep
      for (int l = 0; l < kLanes; ++l) {
        const float v = g[j * kLanes + l] * unscale;
        sum[l] += v * v;
      }
    }
#pragma GCC ivdep
    for (int l = 0; l < kLanes; ++l) lanes[l] += double(sum[l]);
  }
  for (; n > 0; n -= kLanes, g += kLanes) {
    const int64_t left = n < kLanes ? n : kLanes;
#pragma GCC ivdep
    for (int64_t l = 0; l < left; ++l) {
      const float v = g[l] * unscale;
      lanes[l] += double(v * v);
    }
  }
}

// The exponent that brings numbers whose largest is `largest` to where no square overflows or
// vanishes that counts.
int scaling_exponent(double largest) {
  const int exponent = ::ilogb(largest);
  return exponent > 0 ? exponent - 400 : exponent + 400;
}

struct NormJob {
  const GlobalNorm& call;
  int64_t ranges;
  Partial partials[kRanges];

  // Sums the squares of a whole range in float, if there is no limit, no square overflows and
  // squares that vanish do not matter; returns false if the range must be done block by block. It
  // looks for gradients that are all zero first (dead units, or a step that has just cleared them):
  // their squares are exact.
  bool add_range(const Piece* pieces, int64_t count, double* sum) const {
    if (call.max_value < GradientRider::kNoLimit) return false;
    double lanes[kLanes];
    for (int l = 0; l < kLanes; ++l) lanes[l] = 0;
    int64_t elements = 0;
    bool zero = true;
    for (int64_t i = 0; i < count; ++i) {
      if (call.tensors[pieces[i].tensor].computing != DType::f32) return false;
      zero = !add_piece(pieces[i], lanes) && zero;
      elements += pieces[i].size;
    }
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int l = 0; l < width; ++l) lanes[l] += lanes[l + width];
    }
    *sum = lanes[0];
    return zero || (*sum > 1e-28 * double(elements) && *sum - *sum == 0);
  }
  // Whether any element is not zero.
  bool add_piece(const Piece& piece, double* lanes) const {
    const Tensor& tensor = call.tensors[piece.tensor];
    const Operand& operand = tensor.operands[call.operand];
    const bool direct = is_direct<float>(operand);
    alignas(64) float scratch[kBlockElements];
    bool any = false;
    for (int64_t done = 0, n; done < piece.size; done += n) {
      const float* g = scratch;
      n = piece.size - done;
      if (direct) {
        g = static_cast<const float*>(operand.data) + piece.begin + done;
      } else {
        n = n < kBlockElements ? n : kBlockElements;
        load_block(tensor, operand, piece.begin + done, n, scratch);
      }
      if (g[0] == 0 && all_zero(g, n)) continue;
      any = true;
      add_squares(g, n, float(call.unscale), lanes);
    }
    return any;
  }

  template <NormOrder kOrder>
  static void range(void* context, int64_t r) {
    NormJob& job = *static_cast<NormJob*>(context);
    const Schedule& schedule = job.call.schedule;
    const FlushDenormals flush;
    const int64_t first = schedule.groups[schedule.group_count * r / job.ranges];
    const int64_t last = schedule.groups[schedule.group_count * (r + 1) / job.ranges];
    Partial partial{0, 0, -1, false};
    if (kOrder == NormOrder::two &&
        job.add_range(schedule.pieces + first, last - first, &partial.sum)) {
      partial.clamped = partial.sum;
      partial.any = partial.sum != 0;
    } else {
      partial = job.block_by_block<kOrder, float>(first, last);
    }
    job.partials[r] = partial;
  }
  // The same in double throughout, with subnormal numbers.
  template <NormOrder kOrder>
  static void wide_range(void* context, int64_t r) {
    NormJob& job = *static_cast<NormJob*>(context);
    const Schedule& schedule = job.call.schedule;
    const int64_t first = schedule.groups[schedule.group_count * r / job.ranges];
    const int64_t last = schedule.groups[schedule.group_count * (r + 1) / job.ranges];
    job.partials[r] = job.block_by_block<kOrder, double>(first, last);
  }
  // T is the computing type of what is not float64.
  template <NormOrder kOrder, class T>
  Partial block_by_block(int64_t first, int64_t last) const {
    Partial partial{0, 0, -1, false};
    for (int64_t i = first; i < last; ++i) {
      const Piece& piece = call.schedule.pieces[i];
      if (call.tensors[piece.tensor].computing == DType::f64) {
        global_norm_piece<kOrder, double>(call, piece, &partial);
      } else {
        global_norm_piece<kOrder, T>(call, piece, &partial);
      }
    }
    return partial;
  }

  template <NormOrder kOrder>
  Partial total(ChunkFn measure) {
    if (call.schedule.elements <= 4 * kSerialElements) {
      for (int64_t r = 0; r < ranges; ++r) measure(this, r);
    } else {
      parallel_for(ranges, measure, this);
    }
    Partial total{0, 0, -1, false};
    for (int64_t r = 0; r < ranges; ++r) {
      combine<kOrder>(&total.sum, partials[r].sum);
      combine<kOrder>(&total.clamped, partials[r].clamped);
      if (total.first_nonfinite < 0) total.first_nonfinite = partials[r].first_nonfinite;
      total.any = total.any || partials[r].any;
    }
    return total;
  }

  template <NormOrder kOrder>
  void run() {
    const Partial sums = total<kOrder>(&NormJob::range<kOrder>);
    // Below this a term may have been flushed to zero that counts.
    constexpr double kLeast = kOrder == NormOrder::two ? 0x1p-200 : 0x1p-100;
    const bool sound = sums.sum >= kLeast && sums.clamped >= kLeast &&
                       (kOrder != NormOrder::two || (sums.sum < GradientRider::kNoLimit &&
                                                     sums.clamped < GradientRider::kNoLimit));
    if (!sound && sums.any && sums.first_nonfinite < 0) return measure_again<kOrder>();
    const bool root = kOrder == NormOrder::two;
    *call.result = {root ? ::sqrt(sums.sum) : sums.sum, root ? ::sqrt(sums.clamped) : sums.clamped,
                    sums.first_nonfinite};
  }

  struct Scaled {
    double root;
    int exponent;
    double value(int more) const { return ::ldexp(root, exponent + more); }
  };
  Scaled scaled_norm(double largest, double Partial::* which) const {
    if (largest == 0) return {0, 0};
    const int exponent = scaling_exponent(largest);
    GlobalNorm scaled = call;
    scaled.unscale = ::ldexp(call.unscale, -exponent);
    scaled.max_value = ::ldexp(call.max_value, -exponent);
    NormJob job{scaled, ranges, {}};
    return {::sqrt(job.total<NormOrder::two>(&NormJob::wide_range<NormOrder::two>).*which),
            exponent};
  }

  // Slow and rare: every element is finite, but sums or squares are not in the range of numbers.
  template <NormOrder kOrder>
  void measure_again() {
    if constexpr (kOrder == NormOrder::two) {
      const Partial largest = total<NormOrder::inf>(&NormJob::wide_range<NormOrder::inf>);
      const bool limited = call.max_value < GradientRider::kNoLimit;
      const Scaled free = scaled_norm(largest.sum, &Partial::sum);
      const Scaled clamped = limited ? scaled_norm(largest.clamped, &Partial::clamped) : free;
      *call.result = {free.value(0), clamped.value(0), -1};
      if (call.result->clamped_norm == GradientRider::kNoLimit) {
        constexpr int kUnit = 64;
        call.result->clamped_norm = clamped.value(-kUnit);
        call.result->unit = ::ldexp(1, kUnit);
      }
    } else {
      const Partial sums = total<kOrder>(&NormJob::wide_range<kOrder>);
      *call.result = {sums.sum, sums.clamped, -1};
    }
  }
};

void global_norm(const GlobalNorm& call) {
  const int64_t groups = call.schedule.group_count;
  NormJob job{call, groups < kRanges ? groups : kRanges, {}};
  switch (call.order) {
    case NormOrder::one:
      return job.run<NormOrder::one>();
    case NormOrder::two:
      return job.run<NormOrder::two>();
    case NormOrder::inf:
      return job.run<NormOrder::inf>();
  }
}

}  // namespace
ONEPASS_END
