// The reduction driver: the norm of a list of tensors after unscaling, and which of them holds the
// first Inf or NaN. Deterministic: the list is cut into at most kRanges ranges by size alone, sums
// run in fixed lanes, and ranges are added in order.
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

// Squares of floats in float unless they could overflow or vanish there, which a range check on the
// block's sum tells; then again in double.
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

struct NormJob {
  const Norm& call;
  int64_t ranges;
  Partial partials[kRanges];

  template <NormOrder kOrder>
  static void range(void* context, int64_t r) {
    NormJob& job = *static_cast<NormJob*>(context);
    const Schedule& schedule = job.call.schedule;
    const FlushDenormals flush;
    Partial partial{0, 0, -1};
    const int64_t first = schedule.group_count * r / job.ranges;
    const int64_t last = schedule.group_count * (r + 1) / job.ranges;
    for (int64_t i = schedule.groups[first]; i < schedule.groups[last]; ++i) {
      const Piece& piece = schedule.pieces[i];
      if (job.call.tensors[piece.tensor].computing == DType::f64) {
        norm_piece<kOrder, double>(job.call, piece, &partial);
      } else {
        norm_piece<kOrder, float>(job.call, piece, &partial);
      }
    }
    job.partials[r] = partial;
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
