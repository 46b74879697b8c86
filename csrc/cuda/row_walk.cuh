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
