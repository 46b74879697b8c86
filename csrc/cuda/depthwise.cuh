// Depthwise convolutions, and what goes back. (The CPU adds a gradient of stride 1 last to first:
// cpu/depthwise.cpp.)
//
// The gradient of the weights: a block has a tap of one channel or, where the channels are last, of
// some neighbours. Its threads add products of dy and x, kTermsTogether in the computing type and
// those sums in double, and fold them in one order.
#pragma once
#include "cuda/folds.cuh"
#include "cuda/windows.cuh"

ONEPASS_BEGIN
namespace windows {
namespace {

template <class T>
ONEPASS_DEVICE T weight_of(const Windows& w, const Place& p, int64_t tap) {
  return load_element<T>(memory(w.weight), p.channel * taps_of(w) + tap);
}
template <class T>
struct Depthwise {
  static constexpr bool back = false;
  static ONEPASS_DEVICE T result(const Windows& w, const Place& p, int64_t) {
    T sum = T(0);
    each_tap(w, p, [&](int64_t tap, int64_t row, int64_t column) {
      sum += weight_of<T>(w, p, tap) * load_element<T>(from_of(w), pixel(w, p, row, column));
    });
    return sum;
  }
};
template <class T>
struct DepthwiseBackward {
  static constexpr bool back = true;
  static ONEPASS_DEVICE T result(const Windows& w, const Place& p, int64_t) {
    T sum = T(0);
    each_window(w, p, [&](int64_t tap, int64_t row, int64_t column) {
      sum += weight_of<T>(w, p, tap) * load_element<T>(from_of(w), window(w, p, row, column));
    });
    return sum;
  }
};

// The sum of a thread's part of the windows whose tap (i, j) lies on the image.
template <class T>
ONEPASS_DEVICE double products(const Windows& w, int64_t channel, int64_t i, int64_t j,
                               int64_t first, int64_t step) {
  const Range down = windows_on(w.rows, i, 0, w.rows.in);
  const Range beside = windows_on(w.columns, j, 0, w.columns.in);
  const int64_t height = down.end - down.begin, width = beside.end - beside.begin;
  const int64_t count = w.samples * height * width;
  double sum = 0;
  T part = T(0);
  int terms = 0;
  for (int64_t e = first; e < count; e += step) {
    const int64_t above = e / width;
    const Place p{above / height, channel, 0, 0};
    const int64_t row = down.begin + above % height, column = beside.begin + e % width;
    part += load_element<T>(memory(w.dy, w.dtype), window(w, p, row, column)) *
            load_element<T>(from_of(w),
                            pixel(w, p, element(w.rows, row, i), element(w.columns, column, j)));
    if (++terms == kTermsTogether) {
      sum += double(part);
      part = T(0);
      terms = 0;
    }
  }
  return sum + double(part);
}

// C order: neighbouring threads have neighbouring windows.
template <class T>
__global__ void __launch_bounds__(kThreads)
    depthwise_channel_kernel(const __grid_constant__ Windows w) {
  ONEPASS_SHARED(double, parts, [kWarps]);
  const int64_t all = taps_of(w);
  for (int64_t e = blockIdx.x; e < w.channels * all; e += gridDim.x) {
    const int64_t tap = e % all;
    const double sum =
        block_fold(products<T>(w, e / all, tap / w.columns.kernel, tap % w.columns.kernel,
                               int64_t(threadIdx.x), kThreads),
                   Plus{}, parts);
    if (threadIdx.x == 0) static_cast<T*>(w.out)[e] = T(sum);
  }
}
// The channels last: a lane has a channel, a warp each kWarps-th window.
template <class T>
__global__ void __launch_bounds__(kThreads)
    depthwise_lanes_kernel(const __grid_constant__ Windows w) {
  ONEPASS_SHARED(double, parts, [kWarps][kWarpSize]);
  const int64_t all = taps_of(w), groups = ceil_div(w.channels, kWarpSize);
  const int lane = lane_of(threadIdx.x), warp = warp_of(threadIdx.x);
  for (int64_t e = blockIdx.x; e < groups * all; e += gridDim.x) {
    const int64_t tap = e % all, channel = e / all * kWarpSize + lane;
    const double sum = channel < w.channels ? products<T>(w, channel, tap / w.columns.kernel,
                                                          tap % w.columns.kernel, warp, kWarps)
                                            : 0;
    block_sync();  // the parts of the group before have been read
    parts[warp][lane] = sum;
    block_sync();
    if (warp != 0 || channel >= w.channels) continue;
    double folded = parts[0][lane];
    ONEPASS_UNROLL
    for (int k = 1; k < kWarps; ++k) folded += parts[k][lane];
    static_cast<T*>(w.out)[channel * all + tap] = T(folded);
  }
}
inline void depthwise_weight_backward(const Windows& w) {
  const int64_t lanes = w.channels_last ? ceil_div(w.channels, kWarpSize) : w.channels;
  const int64_t blocks = smaller(kMostWindowBlocks, lanes * taps_of(w));
  if (blocks == 0) return;
  const bool wide = w.dtype == DType::f64;
  const auto kernel = w.channels_last
                          ? wide ? &depthwise_lanes_kernel<double> : &depthwise_lanes_kernel<float>
                      : wide ? &depthwise_channel_kernel<double>
                             : &depthwise_channel_kernel<float>;
  start(kernel, blocks, static_cast<cudaStream_t>(w.stream), w);
}

}  // namespace
}  // namespace windows
ONEPASS_END
