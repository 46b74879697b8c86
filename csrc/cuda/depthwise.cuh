// The gradient of the weights of a depthwise convolution: a block has a slice of the windows, three
// by three taps, and one channel or, where the channels are last, up to 32. A thread reads what
// goes back to a window once for its nine taps, adds their products, kTermsTogether in the
// computing type and those sums in double; blocks fold them in one order, and then the slices are
// added.
#pragma once
#include "cuda/folds.cuh"
#include "cuda/window_walk.cuh"

ONEPASS_BEGIN
namespace windows {
namespace {

constexpr int kSide = 3, kTaps = kSide * kSide;
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

template <class T, class A>
struct Products {
  using I = IndexOf<A>;
  const Shape<A>& shape;
  I i, j;           // of the first tap
  I rows, columns;  // how many there are of each
  Layout<I> in;
  I offset[kTaps];  // from the element under the first
  double sum[kTaps];
  T part[kTaps];
  int terms = 0;
  ONEPASS_DEVICE Products(const Shape<A>& of, const Task& task)
      : shape(of),
        i(I(task.i)),
        j(I(task.j)),
        rows(smaller<I>(kSide, of.rows.kernel - i)),
        columns(smaller<I>(kSide, of.columns.kernel - j)),
        in(of.of_elements()) {
    ONEPASS_UNROLL
    for (int k = 0; k < kTaps; ++k) {
      offset[k] = k / kSide * shape.rows.dilation * in.row_step +
                  k % kSide * shape.columns.dilation * in.column_step;
      sum[k] = 0;
      part[k] = T(0);
    }
  }
  // dy of window (row, column) and the elements under its taps, of the image that starts at `from`.
  ONEPASS_DEVICE void add(T dy, Memory from, I row, I column) {
    const I top = element(shape.rows, row, i), left = element(shape.columns, column, j);
    const I di = shape.rows.dilation, dj = shape.columns.dilation;
    const I at = top * in.row_step + left * in.column_step;
    T x[kTaps];
    if (rows == kSide && columns == kSide && top >= 0 && left >= 0 &&
        top + (kSide - 1) * di < in.rows && left + (kSide - 1) * dj < in.columns) {
      ONEPASS_UNROLL
      for (int k = 0; k < kTaps; ++k) x[k] = load_element<T>(from, int64_t(at + offset[k]));
      ONEPASS_UNROLL
      for (int k = 0; k < kTaps; ++k) part[k] += dy * x[k];
    } else {
      ONEPASS_UNROLL
      for (int k = 0; k < kTaps; ++k) {
        const I v = top + k / kSide * di, u = left + k % kSide * dj;
        if (k / kSide < rows && k % kSide < columns && v >= 0 && v < in.rows && u >= 0 &&
            u < in.columns)
          part[k] += dy * load_element<T>(from, int64_t(at + offset[k]));
      }
    }
    if (++terms == kTermsTogether) flush();
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

// The image from an element on. The dtype is known to the compiler: nine loads without a branch.
template <DType kDType>
ONEPASS_DEVICE Memory image_from(const Windows& w, int64_t first) {
  return memory(static_cast<const char*>(w.from) + first * size_of(kDType), kDType);
}
ONEPASS_DEVICE double& slot(const Windows& w, int64_t channel, int64_t tap, int64_t slice,
                            int64_t parts) {
  return static_cast<double*>(w.workspace)[(channel * taps_of(w) + tap) * parts + slice];
}

// C order: neighbouring threads have neighbouring windows of a channel.
template <class T, DType kDType, class A>
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
    Products<T, A> products(shape, task);
    for (int64_t e = task.slice * kThreads + threadIdx.x; e < count; e += step) {
      const Quotient beside = divide(e, out.columns), down = divide(beside.whole, out.rows);
      const int64_t image = down.whole * w.channels + task.channels;
      const int64_t at = image * out.image_step + down.rest * out.columns + beside.rest;
      products.add(load_element<T>(memory(w.dy, kDType), at),
                   image_from<kDType>(w, image * in.image_step), I(down.rest), I(beside.rest));
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
template <class T, DType kDType, class A>
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
    Products<T, A> products(shape, task);
    for (int64_t r = task.slice * kWarps + warp; r < rows; r += parts * kWarps) {
      const Quotient above = divide(r, out.rows);
      const Memory from = image_from<kDType>(w, above.whole * in.image_step + channel);
      const Memory dy = memory(w.dy, kDType);
      const int64_t at = above.whole * out.image_step + above.rest * out.row_step + channel;
      for (I column = 0; column < out.columns; ++column)
        products.add(load_element<T>(dy, at + column * out.column_step), from, I(above.rest),
                     column);
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
    double sum = 0;
    for (int64_t k = 0; k < parts; ++k) sum += from[k];
    static_cast<T*>(w.out)[e] = T(sum);
  }
}

inline int64_t depthwise_workspace(const Windows& w) {
  return w.dy ? w.channels * taps_of(w) * slices(w) * int64_t(sizeof(double)) : 0;
}
template <class T, DType kDType, class A>
void weight_backward(const Windows& w) {
  if (w.channels == 0) return;
  const auto stream = static_cast<cudaStream_t>(w.stream);
  const int64_t parts = w.dy ? slices(w) : 0;  // arrays without elements may have no address
  const int64_t blocks = smaller(kMostWindowBlocks, channel_blocks(w) * tap_blocks(w) * parts);
  if (blocks > 0)
    start(w.channels_last ? &depthwise_lanes_kernel<T, kDType, A>
                          : &depthwise_channel_kernel<T, kDType, A>,
          blocks, stream, w, parts);
  start(&depthwise_slices_kernel<T>, blocks_for(w.channels * taps_of(w)), stream, w, parts);
}
template <class A>
void weight_backward_as(const Windows& w) {
  switch (w.dtype) {
    case DType::f64:
      return weight_backward<double, DType::f64, A>(w);
    case DType::f32:
      return weight_backward<float, DType::f32, A>(w);
    case DType::f16:
      return weight_backward<float, DType::f16, A>(w);
    case DType::bf16:
      return weight_backward<float, DType::bf16, A>(w);
  }
}
inline void depthwise_weight_backward(const Windows& w) {
  is_short(w) ? weight_backward_as<ShortAxis>(w) : weight_backward_as<WindowAxis>(w);
}

}  // namespace
}  // namespace windows
ONEPASS_END
