// How the threads that share a row of classes walk over it and fold their results. The kernels
// along the classes (such as cross_entropy.cuh) build on it.
#pragma once
#include "cuda/folds.cuh"

ONEPASS_BEGIN
namespace {
namespace rows {

// ---- over the threads that share a position

template <int kGroup, class T, class Op>
ONEPASS_DEVICE T fold(T value, Op op) {
  if constexpr (kGroup == 1) {
    return value;
  } else if constexpr (kGroup == kWarpSize) {
    return warp_fold(value, op);
  } else {
    ONEPASS_SHARED(T, parts, [kGroup / kWarpSize]);
    return block_fold<kGroup / kWarpSize>(value, op, parts);
  }
}

// Sums of what one thread meets of a row, in double, or in float 32 elements at a time that are
// then added in double: where the classes lie `inner` apart a thread meets all of them, and the
// error of a sum in float would grow with their number.
template <int kSums, class T>
class LongSums {
 public:
  template <class... V>
  ONEPASS_DEVICE void add(V... values) {
    static_assert(sizeof...(V) == kSums, "an element has a value for each sum");
    const T each[] = {values...};
    ONEPASS_UNROLL
    for (int i = 0; i < kSums; ++i) part_[i] += each[i];
    if (kRuns && ++count_ % kRun == 0) close();
  }
  // After the last element; the threads of the group add theirs.
  template <int kGroup>
  ONEPASS_DEVICE void fold_over() {
    if (kRuns) close();
    ONEPASS_UNROLL
    for (int i = 0; i < kSums; ++i)
      part_[i] = fold<kGroup>(kRuns ? T(total_[i]) : part_[i], Plus{});
  }
  ONEPASS_DEVICE T operator[](int i) const { return part_[i]; }

 private:
  static constexpr bool kRuns = sizeof(T) < sizeof(double);
  static constexpr uint32_t kRun = 32;

  ONEPASS_DEVICE void close() {
    ONEPASS_UNROLL
    for (int i = 0; i < kSums; ++i) {
      total_[i] += double(part_[i]);
      part_[i] = T(0);
    }
  }

  T part_[kSums] = {};
  double total_[kSums] = {};
  uint32_t count_ = 0;
};

// One row of classes, shared by kGroup threads of which this is `lane`. visit() calls
// f(class, element, low, high, x) for each unit x[0, W) of the thread; only [low, high) is the
// row's.
template <int W, int kGroup, class T>
struct Row {
  int64_t begin, classes, stride;
  int lane;

  template <class F>
  ONEPASS_DEVICE void visit(Memory in, F f) const {
    if constexpr (W == 1) {
      for (int64_t c = lane; c < classes; c += kGroup) {
        const int64_t at = begin + c * stride;
        T x[1] = {load_element<T>(in, at)};
        f(c, at, 0, 1, x);
      }
    } else {
      const int64_t end = begin + classes;
      for (int64_t at = begin / W * W + lane * W; at < end; at += kGroup * W) {
        const int low = at < begin ? int(begin - at) : 0;
        const int high = end - at < W ? int(end - at) : W;
        T x[W];
        if (low == 0 && high == W) {
          load_unit<W, T>(in, at, x);
        } else {
          ONEPASS_UNROLL
          for (int w = 0; w < W; ++w)
            x[w] = w >= low && w < high ? load_element<T>(in, at + w) : T(0);
        }
        f(at - begin, at, low, high, x);
      }
    }
  }
};

// f(row, position, exists) for each position of (outer, inner), of which the threads of a block
// share kThreads / kGroup at a time. All threads of a block call f equally often; one without a
// position gets a row of no classes.
template <int W, int kGroup, class T, class F>
ONEPASS_DEVICE void each_row(int64_t outer, int64_t classes, int64_t inner, F f) {
  constexpr int kAtOnce = kThreads / kGroup;
  const int64_t positions = outer * inner;
  const int lane = int(threadIdx.x) % kGroup;
  for (int64_t base = int64_t(blockIdx.x) * kAtOnce; base < positions;
       base += int64_t(gridDim.x) * kAtOnce) {
    const int64_t p = base + int(threadIdx.x) / kGroup;
    const bool exists = p < positions;
    const int64_t o = exists ? p / inner : 0, i = exists ? p % inner : 0;
    f(Row<W, kGroup, T>{o * classes * inner + i, exists ? classes : 0, inner, lane}, p, exists);
  }
}

}  // namespace rows
}  // namespace
ONEPASS_END
