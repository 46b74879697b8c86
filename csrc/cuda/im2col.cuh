// im2col: the elements under each window as a column of a matrix.
#pragma once
#include "cuda/window_walk.cuh"

ONEPASS_BEGIN
namespace windows {
namespace {

// A column of the image for each window: C order, (channels, taps, samples, windows), or
// (samples, windows, taps, channels).
template <int W, class T>
__global__ void __launch_bounds__(kThreads)
    im2col_kernel(const __grid_constant__ Windows w, int64_t units) {
  const Layout<int64_t> in = Shape<WindowAxis>(w).of_elements();
  const int64_t all = taps_of(w), across = w.columns.out, down = w.rows.out;
  for (int64_t u = int64_t(blockIdx.x) * kThreads + threadIdx.x; u < units;
       u += int64_t(gridDim.x) * kThreads) {
    Quotient channel{0, 0}, tap{0, 0}, column{0, 0}, row{0, 0}, sample{0, 0};
    if (w.channels_last) {
      channel = divide(u, w.channels / W);
      tap = divide(channel.whole, all);
      column = divide(tap.whole, across);
      row = divide(column.whole, down);
      sample.rest = row.whole;
    } else {
      column = divide(u, across);
      row = divide(column.whole, down);
      sample = divide(row.whole, w.samples);
      tap = divide(sample.whole, all);
      channel.rest = tap.whole;
    }
    const Quotient at = divide(tap.rest, w.columns.kernel);
    const int64_t i = element(w.rows, row.rest, at.whole);
    const int64_t j = element(w.columns, column.rest, at.rest);
    const int64_t image = w.channels_last
                              ? sample.rest * in.image_step + channel.rest * W
                              : (sample.rest * w.channels + channel.rest) * in.image_step;
    T x[W];
    clear(x);
    if (i >= 0 && i < in.rows && j >= 0 && j < in.columns)
      load_unit<W, T>(from_of(w), image + i * in.row_step + j * in.column_step, x);
    store_unit<W, T>(memory(w.out, w.dtype), u * W, x);
  }
}
template <int W, class T>
void run_im2col(const Windows& w, int64_t elements) {
  start(&im2col_kernel<W, T>, blocks_for(elements / W), static_cast<cudaStream_t>(w.stream), w,
        elements / W);
}
template <class T>
void im2col_typed(const Windows& w) {
  const int64_t elements = w.samples * w.channels * w.rows.out * w.columns.out * taps_of(w);
  if (elements == 0) return;
  if constexpr (sizeof(T) == 4)
    if (w.dtype != DType::f32 && in_units<T>(w, 8)) return run_im2col<8, T>(w, elements);
  in_units<T>(w, kUnit<T>) ? run_im2col<kUnit<T>, T>(w, elements) : run_im2col<1, T>(w, elements);
}
inline void im2col(const Windows& w) {
  w.dtype == DType::f64 ? im2col_typed<double>(w) : im2col_typed<float>(w);
}

}  // namespace
}  // namespace windows
ONEPASS_END
