// The gradient of the weights of a depthwise convolution: a block has a slice of the windows of a
// tap of one channel or, where the channels are last, of some neighbours. Its threads add products
// of dy and x, kTogether in the computing type and those sums in double, and fold them in one
// order; then the slices are added.
#pragma once
#include "cuda/folds.cuh"
#include "cuda/windows.cuh"

ONEPASS_BEGIN
namespace windows {
namespace {

constexpr int kTogether = 32;
constexpr int64_t kWantedBlocks = 1056, kLeastRows = 2 * kWarps;

// The windows whose tap (i, j) lies on the image.
struct OfTap {
  Range down, beside;
  int64_t i, j;
};
ONEPASS_DEVICE OfTap of_tap(const Windows& w, int64_t tap) {
  const int64_t i = tap / w.columns.kernel, j = tap % w.columns.kernel;
  return {windows_on(w.rows, i, 0, w.rows.in), windows_on(w.columns, j, 0, w.columns.in), i, j};
}

template <class T>
struct Products {
  double sum = 0;
  T part = T(0);
  int terms = 0;
  ONEPASS_DEVICE void add(const Windows& w, int64_t there, int64_t here) {
    part += load_element<T>(memory(w.dy, w.dtype), there) * load_element<T>(from_of(w), here);
    if (++terms < kTogether) return;
    sum += double(part);
    part = T(0);
    terms = 0;
  }
  ONEPASS_DEVICE double all() const { return sum + double(part); }
};

// How many parts the rows of all samples are cut into.
ONEPASS_HD int64_t slices(const Windows& w) {
  const int64_t lanes = w.channels_last ? ceil_div(w.channels, kWarpSize) : w.channels;
  const int64_t wanted = ceil_div(kWantedBlocks, larger(1, lanes * taps_of(w)));
  return larger(1, smaller(wanted, w.samples * w.rows.out / kLeastRows));
}

// C order: neighbouring threads have neighbouring windows of a channel.
template <class T>
__global__ void __launch_bounds__(kThreads)
    depthwise_channel_kernel(const __grid_constant__ Windows w, int64_t parts) {
  ONEPASS_SHARED(double, folded, [kWarps]);
  const Layout in = of_elements(w), out = of_windows(w);
  const int64_t all = taps_of(w), tasks = w.channels * all * parts;
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const int64_t e = task / parts, channel = e / all;
    const OfTap at = of_tap(w, e % all);
    const int64_t height = at.down.end - at.down.begin, width = at.beside.end - at.beside.begin;
    const int64_t step = parts * kThreads, count = w.samples * height * width;
    Products<T> products;
    for (int64_t k = task % parts * kThreads + threadIdx.x; k < count; k += step) {
      const Quotient across = divide(k, width), above = divide(across.whole, height);
      const int64_t image = above.whole * w.channels + channel;
      const int64_t row = at.down.begin + above.rest, column = at.beside.begin + across.rest;
      products.add(w, image * out.image_step + row * out.row_step + column,
                   image * in.image_step + element(w.rows, row, at.i) * in.row_step +
                       element(w.columns, column, at.j));
    }
    const double sum = block_fold(products.all(), Plus{}, folded);
    if (threadIdx.x == 0) static_cast<double*>(w.workspace)[task] = sum;
  }
}
// The channels last: a lane has a channel, a warp each of its rows.
template <class T>
__global__ void __launch_bounds__(kThreads)
    depthwise_lanes_kernel(const __grid_constant__ Windows w, int64_t parts) {
  ONEPASS_SHARED(double, folded, [kWarps][kWarpSize]);
  const Layout in = of_elements(w), out = of_windows(w);
  const int64_t all = taps_of(w), tasks = ceil_div(w.channels, kWarpSize) * all * parts;
  const int lane = lane_of(threadIdx.x), warp = warp_of(threadIdx.x);
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const int64_t e = task / parts, tap = e % all, channel = e / all * kWarpSize + lane;
    const OfTap at = of_tap(w, tap);
    const int64_t height = at.down.end - at.down.begin, width = at.beside.end - at.beside.begin;
    const int64_t rows = channel < w.channels ? w.samples * height : 0;
    Products<T> products;
    for (int64_t r = task % parts * kWarps + warp; r < rows; r += parts * kWarps) {
      const Quotient above = divide(r, height);
      const int64_t row = at.down.begin + above.rest;
      int64_t there = above.whole * out.image_step + row * out.row_step +
                      at.beside.begin * out.column_step + channel;
      int64_t here = above.whole * in.image_step + element(w.rows, row, at.i) * in.row_step +
                     element(w.columns, at.beside.begin, at.j) * in.column_step + channel;
      for (int64_t k = 0; k < width; ++k) {
        products.add(w, there, here);
        there += out.column_step;
        here += w.columns.stride * in.column_step;
      }
    }
    block_sync();  // the sums of the task before have been read
    folded[warp][lane] = products.all();
    block_sync();
    if (warp != 0 || channel >= w.channels) continue;
    double sum = folded[0][lane];
    ONEPASS_UNROLL
    for (int k = 1; k < kWarps; ++k) sum += folded[k][lane];
    static_cast<double*>(w.workspace)[(channel * all + tap) * parts + task % parts] = sum;
  }
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    depthwise_slices_kernel(const __grid_constant__ Windows w, int64_t parts) {
  const int64_t count = w.channels * taps_of(w);
  for (int64_t e = int64_t(blockIdx.x) * kThreads + threadIdx.x; e < count;
       e += int64_t(gridDim.x) * kThreads) {
    const double* const from = static_cast<const double*>(w.workspace) + e * parts;
    double sum = from[0];
    for (int64_t k = 1; k < parts; ++k) sum += from[k];
    static_cast<T*>(w.out)[e] = T(sum);
  }
}

inline int64_t depthwise_workspace(const Windows& w) {
  return w.dy ? w.channels * taps_of(w) * slices(w) * int64_t(sizeof(double)) : 0;
}
template <class T>
void weight_backward(const Windows& w) {
  const int64_t lanes = w.channels_last ? ceil_div(w.channels, kWarpSize) : w.channels;
  const int64_t parts = slices(w), blocks = smaller(kMostWindowBlocks, lanes * taps_of(w) * parts);
  if (blocks == 0) return;
  const auto stream = static_cast<cudaStream_t>(w.stream);
  const auto kernel = w.channels_last ? &depthwise_lanes_kernel<T> : &depthwise_channel_kernel<T>;
  start(kernel, blocks, stream, w, parts);
  start(&depthwise_slices_kernel<T>, blocks_for(w.channels * taps_of(w)), stream, w, parts);
}
inline void depthwise_weight_backward(const Windows& w) {
  w.dtype == DType::f64 ? weight_backward<double>(w) : weight_backward<float>(w);
}

}  // namespace
}  // namespace windows
ONEPASS_END
