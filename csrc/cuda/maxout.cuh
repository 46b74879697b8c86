// Maxout: a thread for each position, whose pieces lie `inner` apart.
#pragma once
#include "cuda/launch.cuh"
#include "cuda/row_walk.cuh"
#include "kernels/maxout.h"

ONEPASS_BEGIN
namespace {
namespace rows {

constexpr int64_t kMostMaxoutBlocks = 2112;

struct MaxoutCall {
  int64_t outer, pieces, inner;
  DType dtype;
  const void *x, *dy;
  void* out;

  ONEPASS_HD Memory in(const void* data) const { return memory(data, dtype); }
};

template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    maxout_kernel(const __grid_constant__ MaxoutCall call) {
  each_row<1, 1, T>(
      call.outer, call.pieces, call.inner, [&](const auto& row, int64_t position, bool exists) {
        if (!exists) return;
        const Memory in = call.in(call.x), out = call.in(call.out);
        MaxoutPick<T> pick{load_element<T>(in, row.begin), 0};
        row.visit(in,
                  [&](int64_t c, int64_t, int, int, const T* x) { pick.take(x[0], int32_t(c)); });
        if (!call.dy) return store_element<T>(out, position, pick.most);
        const T dy = load_element<T>(call.in(call.dy), position);
        row.visit(in, [&](int64_t c, int64_t at, int, int, const T*) {
          store_element<T>(out, at, c == pick.piece ? dy : T(0));
        });
      });
}

template <class T>
void run_maxout(const AlongClasses& c) {
  const MaxoutCall call{c.outer, c.classes, c.inner, c.dtype, c.x, c.dy, c.out};
  const int64_t blocks = smaller(kMostMaxoutBlocks, ceil_div(c.outer * c.inner, kThreads));
  start(&maxout_kernel<T>, blocks, static_cast<cudaStream_t>(c.stream), call);
}

}  // namespace rows

// Forward, or backward where there is a dy.
inline void maxout(const AlongClasses& c) {
  if (c.outer * c.classes * c.inner == 0) return;
  c.dtype == DType::f64 ? rows::run_maxout<double>(c) : rows::run_maxout<float>(c);
}

}  // namespace
ONEPASS_END
