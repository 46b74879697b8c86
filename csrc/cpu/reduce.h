// The reduction driver: the norm of a list of tensors after unscaling, and the first tensor that
// holds Inf or NaN. Deterministic: size alone cuts the list into at most kRanges ranges, sums run
// in fixed lanes, and ranges are added in order. A range is summed at once in float; if that
// overflows or vanishes, again block by block.
#pragma once
#include <math.h>

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
};

struct BlockSum {
  double sum;
  bool finite;
};

template <NormOrder kOrder>
ONEPASS_HD void combine(double* total, double value) {
  if constexpr (kOrder == NormOrder::inf) {
    *total = value > *total || value != value ? value : *total;
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

template <NormOrder kOrder, class T>
void norm_piece(const Norm& call, const Piece& piece, Partial* partial) {
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
      load_block<T>(tensor, operand, piece.begin + done, n, scratch);
    }
    const BlockSum free = sum_block<kOrder, T>(g, n, T(call.unscale), T(GradientRider::kNoLimit));
    combine<kOrder>(&partial->sum, free.sum);
    if (!free.finite && partial->first_nonfinite < 0) partial->first_nonfinite = piece.tensor;
    combine<kOrder>(
        &partial->clamped,
        limited ? sum_block<kOrder, T>(g, n, T(call.unscale), T(call.max_value)).sum : free.sum);
  }
}

// Squares of g · unscale, eight rows of kLanes added in float before they meet a double.
void add_squares(const float* g, int64_t n, float unscale, double* lanes) {
  constexpr int kRows = 8;
  for (; n >= kRows * kLanes; n -= kRows * kLanes, g += kRows * kLanes) {
#pragma GCC ivdep
    for (int l = 0; l < kLanes; ++l) {
      float sum = 0;
#pragma GCC unroll 8
      for (int j = 0; j < kRows; ++j) {
        const float v = g[j * kLanes + l] * unscale;
        sum += v * v;
      }
      lanes[l] += double(sum);
    }
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
bool all_zero(const float* g, int64_t n) {
  constexpr int64_t kStep = 512;
  for (int64_t done = 0; done < n; done += kStep) {
    const int64_t end = n - done < kStep ? n : done + kStep;
    uint32_t any = 0;
    for (int64_t i = done; i < end; ++i) any |= math::to_bits(g[i]) << 1;
    if (any != 0) return false;
  }
  return true;
}

struct NormJob {
  const Norm& call;
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
        load_block<float>(tensor, operand, piece.begin + done, n, scratch);
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
    Partial partial{0, 0, -1};
    if (kOrder == NormOrder::two &&
        job.add_range(schedule.pieces + first, last - first, &partial.sum)) {
      partial.clamped = partial.sum;
    } else {
      partial = job.block_by_block<kOrder>(first, last);
    }
    job.partials[r] = partial;
  }
  template <NormOrder kOrder>
  Partial block_by_block(int64_t first, int64_t last) const {
    Partial partial{0, 0, -1};
    for (int64_t i = first; i < last; ++i) {
      const Piece& piece = call.schedule.pieces[i];
      if (call.tensors[piece.tensor].computing == DType::f64) {
        norm_piece<kOrder, double>(call, piece, &partial);
      } else {
        norm_piece<kOrder, float>(call, piece, &partial);
      }
    }
    return partial;
  }

  template <NormOrder kOrder>
  void run() {
    if (call.schedule.elements <= 4 * kSerialElements) {
      for (int64_t r = 0; r < ranges; ++r) range<kOrder>(this, r);
    } else {
      parallel_for(ranges, &NormJob::range<kOrder>, this);
    }
    Partial total{0, 0, -1};
    for (int64_t r = 0; r < ranges; ++r) {
      combine<kOrder>(&total.sum, partials[r].sum);
      combine<kOrder>(&total.clamped, partials[r].clamped);
      if (total.first_nonfinite < 0) total.first_nonfinite = partials[r].first_nonfinite;
    }
    if (kOrder == NormOrder::two) {
      total.sum = ::sqrt(total.sum);
      total.clamped = ::sqrt(total.clamped);
    }
    *call.result = {total.sum, total.clamped, total.first_nonfinite};
  }
};

void norm(const Norm& call) {
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
