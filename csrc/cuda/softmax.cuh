// Softmax and log-softmax along the classes of (outer, classes, inner), one launch. One thread
// takes a position if its classes lie `inner` apart, a warp if its row is short, otherwise a block.
// A row is read from memory once; what follows finds it in a cache.
#pragma once
#include "cuda/launch.cuh"
#include "cuda/row_walk.cuh"
#include "kernels/cross_entropy.h"
#include "kernels/softmax.h"

ONEPASS_BEGIN
namespace {
namespace rows {

constexpr int64_t kSoftmaxLongRow = 1024;  // classes from which on a row is a block's
constexpr int64_t kMostSoftmaxBlocks = 2112;

struct SoftmaxCall {
  int64_t outer, classes, inner;
  DType dtype;
  const void *x, *dy;
  void* out;
  int32_t width;  // elements of the units in which rows can be read

  ONEPASS_HD Memory in(const void* data) const { return memory(data, dtype); }
};

// The unit y[0, W) at an element, of which [low, high) is the row's.
template <int W, class T>
ONEPASS_DEVICE void store_part(Memory to, int64_t at, int low, int high, const T* y) {
  if (low == 0 && high == W) {
    store_unit<W, T>(to, at, y);
  } else {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w)
      if (w >= low && w < high) store_element<T>(to, at + w, y[w]);
  }
}
template <int W, class T>
ONEPASS_DEVICE void load_part(Memory from, int64_t at, int low, int high, T* x) {
  if (low == 0 && high == W) {
    load_unit<W, T>(from, at, x);
  } else {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) x[w] = w >= low && w < high ? load_element<T>(from, at + w) : T(0);
  }
}

template <class F, int W, int kGroup, class T>
ONEPASS_DEVICE void forward_row(const SoftmaxCall& call, const Row<W, kGroup, T>& row) {
  const Memory in = call.in(call.x), out = call.in(call.out);
  T m = row.classes > 0 ? load_element<T>(in, row.begin) : T(0);
  row.visit(in, [&](int64_t, int64_t, int low, int high, const T* x) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w)
      if (w >= low && w < high) m = Larger{}(m, x[w]);
  });
  m = fold<kGroup>(m, Larger{});
  T sum = T(0);
  row.visit(in, [&](int64_t, int64_t, int low, int high, const T* x) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w)
      if (w >= low && w < high) sum += cross_entropy_formula::term(x[w], m);
  });
  const T of_sum = F::of_sum(fold<kGroup>(sum, Plus{}));
  if constexpr (kGroup == kWarpSize) warp_sync(kFullWarp);  // the result may be x
  row.visit(in, [&](int64_t, int64_t at, int low, int high, const T* x) {
    T y[W];
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w)
      y[w] = F::forward(F::kOfTerm ? cross_entropy_formula::term(x[w], m) : x[w], m, of_sum);
    store_part<W, T>(out, at, low, high, y);
  });
}

template <class F, int W, int kGroup, class T>
ONEPASS_DEVICE void backward_row(const SoftmaxCall& call, const Row<W, kGroup, T>& row) {
  const Memory out = call.in(call.out);
  const auto each = [&](auto f) {
    row.visit(call.in(call.x), [&](int64_t, int64_t at, int low, int high, const T* y) {
      T dy[W];
      load_part<W, T>(call.in(call.dy), at, low, high, dy);
      f(at, low, high, y, dy);
    });
  };
  T sum = T(0);
  each([&](int64_t, int low, int high, const T* y, const T* dy) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w)
      if (w >= low && w < high) sum += F::share(dy[w], y[w]);
  });
  sum = fold<kGroup>(sum, Plus{});
  if constexpr (kGroup == kWarpSize) warp_sync(kFullWarp);  // the result may be y or dy
  each([&](int64_t at, int low, int high, const T* y, const T* dy) {
    T dx[W];
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) dx[w] = F::backward(dy[w], y[w], sum);
    store_part<W, T>(out, at, low, high, dx);
  });
}

template <class F, int W, int kGroup, class T>
ONEPASS_DEVICE void softmax_rows(const SoftmaxCall& call) {
  each_row<W, kGroup, T>(call.outer, call.classes, call.inner, [&](const auto& row, int64_t, bool) {
    call.dy ? backward_row<F>(call, row) : forward_row<F>(call, row);
  });
}
template <class F, class T, int kGroup>
__global__ void __launch_bounds__(kThreads, 2)
    softmax_kernel(const __grid_constant__ SoftmaxCall call) {
  if (kGroup > 1 && call.width > 1) {
    softmax_rows<F, (kGroup > 1 ? kUnit<T> : 1), kGroup, T>(call);
  } else {
    softmax_rows<F, 1, kGroup, T>(call);
  }
}

template <class F, class T, int kGroup>
void run_softmax(const RowCall& c) {
  constexpr int kWidth = kUnit<T>;
  const bool wide = is_aligned(c.x, c.dtype, kWidth) && is_aligned(c.out, c.dtype, kWidth) &&
                    (!c.dy || is_aligned(c.dy, c.dtype, kWidth));
  const SoftmaxCall call{c.outer, c.classes, c.inner, c.dtype, c.x, c.dy, c.out, wide ? kWidth : 1};
  const int64_t blocks =
      smaller(kMostSoftmaxBlocks, ceil_div(c.outer * c.inner, kThreads / kGroup));
  start(&softmax_kernel<F, T, kGroup>, blocks, static_cast<cudaStream_t>(c.stream), call);
}
template <class F, class T>
void run_softmax(const RowCall& c) {
  if (c.inner > 1) return run_softmax<F, T, 1>(c);
  if (c.classes < kSoftmaxLongRow) return run_softmax<F, T, kWarpSize>(c);
  run_softmax<F, T, kThreads>(c);
}
template <template <class> class F>
void run_softmax(const RowCall& c) {
  if (c.outer * c.classes * c.inner == 0) return;
  c.dtype == DType::f64 ? run_softmax<F<double>, double>(c) : run_softmax<F<float>, float>(c);
}

}  // namespace rows

// Forward, or backward where there is a dy.
inline void softmax(const RowCall& c) {
  c.logarithm ? rows::run_softmax<LogSoftmax>(c) : rows::run_softmax<Softmax>(c);
}

}  // namespace
ONEPASS_END
