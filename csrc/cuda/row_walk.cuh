// How the threads that share a row of classes walk over it and fold what they found. Kernels along
// the classes (cross_entropy.cuh) are written on it.
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

}  // namespace rows
}  // namespace
ONEPASS_END
