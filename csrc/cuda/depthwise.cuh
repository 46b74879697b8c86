// The gradient of the weights of a depthwise convolution: a block has a slice of the windows, three
// by three taps, and one channel or, where the channels are last, up to 32. A thread reads what
// goes back to a window once for its nine taps, adds their products, kTogether in the computing
// type and those sums in double; blocks fold them in one order, and then the slices are added.
#pragma once
#include "cuda/folds.cuh"
#include "cuda/windows.cuh"

ONEPASS_BEGIN
namespace windows {
namespace {

constexpr int kTogether = 32, kSide = 3, kTaps = kSide * kSide;
constexpr int64_t kWantedBlocks = 1056, kLeastWindows = 4096;

ONEPASS_HD int64_t tap_blocks(const Windows& w) {
  return ceil_div(w.rows.kernel, kSide) * ceil_div(w.columns.kernel, kSide);
}
ONEPASS_HD int64_t channel_blocks(const Windows& w) {
  return w.channels_last ? ceil_div(w.channels, kWarpSize) : w.channels;
}
// How many parts the windows are cut into.
ONEPASS_HD int64_t slices(const Windows& w) {
  const int64_t wanted = ceil_div(kWantedBlocks, larger(1, channel_blocks(w) * tap_blocks(w)));
  const int64_t windows = w.samples * w.rows.out * w.columns.out;
  return larger(1, smaller(wanted, windows * (w.channels_last ? 32 : 1) / kLeastWindows));
}

// What a block has to do.
struct Task {
  int64_t channels, i, j, slice;  // channels: which of their blocks; i, j: the first tap
};
ONEPASS_DEVICE Task task_of(const Windows& w, int64_t task, int64_t parts) {
  const Quotient slice = divide(task, parts), taps = divide(slice.whole, tap_blocks(w));
  const Quotient down = divide(taps.rest, ceil_div(w.columns.kernel, kSide));
  return {taps.whole, down.whole * kSide, down.rest * kSide, slice.rest};
}
// f(k, tap) for the taps of a task that there are.
template <class F>
ONEPASS_DEVICE void each_of(const Windows& w, const Task& task, F f) {
  ONEPASS_UNROLL
  for (int k = 0; k < kTaps; ++k) {
    const int64_t i = task.i + k / kSide, j = task.j + k % kSide;
    if (i < w.rows.kernel && j < w.columns.kernel) f(k, i * w.columns.kernel + j);
  }
}

template <class T>
struct Products {
  double sum[kTaps];
  T part[kTaps];
  int terms = 0;
  ONEPASS_DEVICE Products() {
    ONEPASS_UNROLL
    for (int k = 0; k < kTaps; ++k) {
      sum[k] = 0;
      part[k] = T(0);
    }
  }
  // dy of window (row, column) and the elements under its taps, of the image that starts at `from`.
  template <class A, class I>
  ONEPASS_DEVICE void add(const Shape<A>& shape, const Task& task, T dy, Memory from, I row,
                          I column) {
    const Layout<I> in = shape.of_elements();
    const I top = element(shape.rows, row, I(task.i)), di = shape.rows.dilation;
    const I left = element(shape.columns, column, I(task.j)), dj = shape.columns.dilation;
    const I at = top * in.row_step + left * in.column_step;
    T x[kTaps];
    bool there[kTaps];
    ONEPASS_UNROLL
    for (int k = 0; k < kTaps; ++k) {
      const I i = k / kSide, j = k % kSide;
      const bool is_row =
          I(task.i) + i < shape.rows.kernel && top + i * di >= 0 && top + i * di < in.rows;
      there[k] = is_row && I(task.j) + j < shape.columns.kernel && left + j * dj >= 0 &&
                 left + j * dj < in.columns;
      x[k] = T(0);
      if (there[k])
        x[k] = load_element<T>(from, int64_t(at + i * di * in.row_step + j * dj * in.column_step));
    }
    ONEPASS_UNROLL
    for (int k = 0; k < kTaps; ++k)
      if (there[k]) part[k] += dy * x[k];
    if (++terms < kTogether) return;
    flush();
  }
  ONEPASS_DEVICE void flush() {
    ONEPASS_UNROLL
    for (int k = 0; k < kTaps; ++k) {
      sum[k] += double(part[k]);
      part[k] = T(0);
    }
    terms = 0;
  }
};

ONEPASS_DEVICE double& slot(const Windows& w, int64_t channel, int64_t tap, int64_t slice,
                            int64_t parts) {
  return static_cast<double*>(w.workspace)[(channel * taps_of(w) + tap) * parts + slice];
}

// C order: neighbouring threads have neighbouring windows of a channel.
template <class T, class A>
__global__ void __launch_bounds__(kThreads)
    depthwise_channel_kernel(const __grid_constant__ Windows w, int64_t parts) {
  ONEPASS_SHARED(double, folded, [kWarps]);
  using I = IndexOf<A>;
  const Shape<A> shape(w);
  const Layout<I> in = shape.of_elements(), out = shape.of_windows();
  const int64_t tasks = w.channels * tap_blocks(w) * parts;
  const int64_t count = w.samples * out.image_step, step = parts * kThreads;
  for (int64_t n = blockIdx.x; n < tasks; n += gridDim.x) {
    const Task task = task_of(w, n, parts);
    Products<T> products;
    for (int64_t e = task.slice * kThreads + threadIdx.x; e < count; e += step) {
      const Quotient beside = divide(e, out.columns), down = divide(beside.whole, out.rows);
      const int64_t image = down.whole * w.channels + task.channels;
      const int64_t at = image * out.image_step + down.rest * out.columns + beside.rest;
      products.add(shape, task, load_element<T>(memory(w.dy, w.dtype), at),
                   from_of(w, image * in.image_step), I(down.rest), I(beside.rest));
    }
    products.flush();
    ONEPASS_UNROLL
    for (int k = 0; k < kTaps; ++k) products.sum[k] = block_fold(products.sum[k], Plus{}, folded);
    if (threadIdx.x == 0)
      each_of(w, task, [&](int k, int64_t tap) {
        slot(w, task.channels, tap, task.slice, parts) = products.sum[k];
      });
  }
}
// The channels last: a lane has a channel, a warp each of its rows.
template <class T, class A>
__global__ void __launch_bounds__(kThreads, 2)
    depthwise_lanes_kernel(const __grid_constant__ Windows w, int64_t parts) {
  ONEPASS_SHARED(double, folded, [kWarps][kTaps][kWarpSize]);
  using I = IndexOf<A>;
  const Shape<A> shape(w);
  const Layout<I> in = shape.of_elements(), out = shape.of_windows();
  const int64_t tasks = channel_blocks(w) * tap_blocks(w) * parts;
  const int lane = lane_of(threadIdx.x), warp = warp_of(threadIdx.x);
  for (int64_t n = blockIdx.x; n < tasks; n += gridDim.x) {
    const Task task = task_of(w, n, parts);
    const int64_t channel = task.channels * kWarpSize + lane;
    const int64_t rows = channel < w.channels ? w.samples * out.rows : 0;
    Products<T> products;
    for (int64_t r = task.slice * kWarps + warp; r < rows; r += parts * kWarps) {
      const Quotient above = divide(r, out.rows);
      const Memory from = from_of(w, above.whole * in.image_step + channel);
      const int64_t at = above.whole * out.image_step + above.rest * out.row_step + channel;
      for (I column = 0; column < out.columns; ++column)
        products.add(shape, task,
                     load_element<T>(memory(w.dy, w.dtype), at + column * out.column_step), from,
                     I(above.rest), column);
    }
    products.flush();
    block_sync();  // the sums of the task before have been read
    ONEPASS_UNROLL
    for (int k = 0; k < kTaps; ++k) folded[warp][k][lane] = products.sum[k];
    block_sync();
    if (warp != 0 || channel >= w.channels) continue;
    each_of(w, task, [&](int k, int64_t tap) {
      double sum = folded[0][k][lane];
      ONEPASS_UNROLL
      for (int other = 1; other < kWarps; ++other) sum += folded[other][k][lane];
      slot(w, channel, tap, task.slice, parts) = sum;
    });
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
template <class T, class A>
void weight_backward(const Windows& w) {
  const int64_t parts = slices(w);
  const int64_t blocks = smaller(kMostWindowBlocks, channel_blocks(w) * tap_blocks(w) * parts);
  if (blocks == 0) return;
  const auto stream = static_cast<cudaStream_t>(w.stream);
  start(w.channels_last ? &depthwise_lanes_kernel<T, A> : &depthwise_channel_kernel<T, A>, blocks,
        stream, w, parts);
  start(&depthwise_slices_kernel<T>, blocks_for(w.channels * taps_of(w)), stream, w, parts);
}
inline void depthwise_weight_backward(const Windows& w) {
  const bool fits = is_short(w);
  if (w.dtype == DType::f64) {
    fits ? weight_backward<double, ShortAxis>(w) : weight_backward<double, WindowAxis>(w);
  } else {
    fits ? weight_backward<float, ShortAxis>(w) : weight_backward<float, WindowAxis>(w);
  }
}

}  // namespace
}  // namespace windows
ONEPASS_END
