// Windows over images: a thread for each element of the result, which gathers what it is made of,
// first to last.
#pragma once
#include "core/windows.h"

#include "cuda/launch.cuh"
#include "kernels/max_pool.h"

ONEPASS_BEGIN
namespace windows {
namespace {

constexpr int64_t kMostWindowBlocks = 2112;

// Where an element of the image, or of what has a value for each window, is.
struct Place {
  int64_t sample, channel, row, column;
};
ONEPASS_DEVICE Place place_of(const Windows& w, int64_t height, int64_t width, int64_t e) {
  Place p{};
  if (w.channels_last) {
    p.channel = e % w.channels;
    e /= w.channels;
  }
  p.column = e % width;
  e /= width;
  p.row = e % height;
  e /= height;
  p.sample = e;
  if (!w.channels_last) {
    p.channel = e % w.channels;
    p.sample = e / w.channels;
  }
  return p;
}
ONEPASS_DEVICE int64_t index_of(const Windows& w, int64_t height, int64_t width, const Place& p,
                                int64_t row, int64_t column) {
  return w.channels_last ? ((p.sample * height + row) * width + column) * w.channels + p.channel
                         : ((p.sample * w.channels + p.channel) * height + row) * width + column;
}
ONEPASS_DEVICE int64_t pixel(const Windows& w, const Place& p, int64_t row, int64_t column) {
  return index_of(w, w.rows.in, w.columns.in, p, row, column);
}
ONEPASS_DEVICE int64_t window(const Windows& w, const Place& p, int64_t row, int64_t column) {
  return index_of(w, w.rows.out, w.columns.out, p, row, column);
}
ONEPASS_DEVICE Memory from_of(const Windows& w) { return memory(w.from, w.dtype); }

// f(tap, row, column) for each element of the image under the window at p,
template <class F>
ONEPASS_DEVICE void each_tap(const Windows& w, const Place& p, F f) {
  const Range down = taps(w.rows, p.row), across = taps(w.columns, p.column);
  for (int64_t i = down.begin; i < down.end; ++i)
    for (int64_t j = across.begin; j < across.end; ++j)
      f(i * w.columns.kernel + j, element(w.rows, p.row, i), element(w.columns, p.column, j));
}
// and for each window over the element at p.
template <class F>
ONEPASS_DEVICE void each_window(const Windows& w, const Place& p, F f) {
  Cover down = windows_over(w.rows, p.row);
  const Cover beside = windows_over(w.columns, p.column);
  const int64_t before = beside.count - 1;
  const int64_t first = beside.window - before * beside.window_step;
  for (; down.count > 0; --down.count, down.tap += down.tap_step, down.window -= down.window_step) {
    int64_t tap = down.tap * w.columns.kernel + beside.tap + before * beside.tap_step;
    int64_t column = first;
    for (int64_t k = before; k >= 0; --k, tap -= beside.tap_step, column += beside.window_step)
      f(tap, down.window, column);
  }
}

template <class T>
struct MaxPool {
  static constexpr bool back = false;
  static ONEPASS_DEVICE T result(const Windows& w, const Place& p, int64_t e) {
    MaxPoolPick<T> pick;
    each_tap(w, p, [&](int64_t tap, int64_t row, int64_t column) {
      pick.take(load_element<T>(from_of(w), pixel(w, p, row, column)), T(tap));
    });
    if (w.indices) static_cast<T*>(w.indices)[e] = pick.tap;
    return pick.most;
  }
};
template <class T>
struct MaxPoolBackward {
  static constexpr bool back = true;
  static ONEPASS_DEVICE T result(const Windows& w, const Place& p, int64_t) {
    T sum = T(0);
    each_window(w, p, [&](int64_t tap, int64_t row, int64_t column) {
      const int64_t at = window(w, p, row, column);
      sum += max_pool_gradient(load_element<T>(from_of(w), at),
                               static_cast<const T*>(w.indices)[at], T(tap));
    });
    return sum;
  }
};

ONEPASS_DEVICE int64_t counts(const Windows& w, int64_t row, int64_t column) {
  return counted(w.rows, row, w.count_padding) * counted(w.columns, column, w.count_padding);
}
template <class T>
struct AvgPool {
  static constexpr bool back = false;
  static ONEPASS_DEVICE T result(const Windows& w, const Place& p, int64_t) {
    // Row by row, as on the CPU.
    T sum = T(0);
    const Range down = taps(w.rows, p.row), across = taps(w.columns, p.column);
    for (int64_t i = down.begin; i < down.end; ++i) {
      T part = T(0);
      for (int64_t j = across.begin; j < across.end; ++j)
        part += load_element<T>(
            from_of(w), pixel(w, p, element(w.rows, p.row, i), element(w.columns, p.column, j)));
      sum += part;
    }
    return sum / T(counts(w, p.row, p.column));
  }
};
template <class T>
struct AvgPoolBackward {
  static constexpr bool back = true;
  static ONEPASS_DEVICE T result(const Windows& w, const Place& p, int64_t) {
    T sum = T(0);
    each_window(w, p, [&](int64_t, int64_t row, int64_t column) {
      sum += load_element<T>(from_of(w), window(w, p, row, column)) / T(counts(w, row, column));
    });
    return sum;
  }
};

// Column by column, and in each from top to bottom, as on the CPU.
template <class T>
struct AdaptiveAvgPool {
  static constexpr bool back = false;
  static ONEPASS_DEVICE T result(const Windows& w, const Place& p, int64_t) {
    const Range down = part_of(w.rows.in, w.rows.out, p.row);
    const Range across = part_of(w.columns.in, w.columns.out, p.column);
    T sum = T(0);
    for (int64_t j = across.begin; j < across.end; ++j) {
      T part = T(0);
      for (int64_t i = down.begin; i < down.end; ++i)
        part += load_element<T>(from_of(w), pixel(w, p, i, j));
      sum += part;
    }
    return sum / T(length(down) * length(across));
  }
};
template <class T>
struct AdaptiveAvgPoolBackward {
  static constexpr bool back = true;
  static ONEPASS_DEVICE T result(const Windows& w, const Place& p, int64_t) {
    const Range down = part_of(w.rows.out, w.rows.in, p.row);
    const Range across = part_of(w.columns.out, w.columns.in, p.column);
    T sum = T(0);
    for (int64_t column = across.begin; column < across.end; ++column) {
      const int64_t width = length(part_of(w.columns.in, w.columns.out, column));
      T part = T(0);
      for (int64_t row = down.begin; row < down.end; ++row)
        part += load_element<T>(from_of(w), window(w, p, row, column)) /
                T(length(part_of(w.rows.in, w.rows.out, row)) * width);
      sum += part;
    }
    return sum;
  }
};

template <class T>
struct Col2im {
  static constexpr bool back = true;
  static ONEPASS_DEVICE T result(const Windows& w, const Place& p, int64_t) {
    T sum = T(0);
    const int64_t all = taps_of(w), windows = w.rows.out * w.columns.out;
    const int64_t first = w.channels_last ? p.sample * windows * all * w.channels + p.channel
                                          : (p.channel * all * w.samples + p.sample) * windows;
    const int64_t by_tap = w.channels_last ? w.channels : w.samples * windows;
    const int64_t by_window = w.channels_last ? all * w.channels : 1;
    each_window(w, p, [&](int64_t tap, int64_t row, int64_t column) {
      const int64_t at = first + tap * by_tap + (row * w.columns.out + column) * by_window;
      sum += load_element<T>(from_of(w), at);
    });
    return sum;
  }
};

template <class T, template <class> class W>
__global__ void __launch_bounds__(kThreads)
    windows_kernel(const __grid_constant__ Windows w, int64_t elements) {
  const int64_t height = W<T>::back ? w.rows.in : w.rows.out;
  const int64_t width = W<T>::back ? w.columns.in : w.columns.out;
  for (int64_t e = int64_t(blockIdx.x) * kThreads + threadIdx.x; e < elements;
       e += int64_t(gridDim.x) * kThreads)
    store_element<T>(memory(w.out, w.dtype), e, W<T>::result(w, place_of(w, height, width, e), e));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    im2col_kernel(const __grid_constant__ Windows w, int64_t elements) {
  const int64_t all = taps_of(w);
  for (int64_t e = int64_t(blockIdx.x) * kThreads + threadIdx.x; e < elements;
       e += int64_t(gridDim.x) * kThreads) {
    Place p{};
    int64_t rest = e, tap = 0;
    if (w.channels_last) {
      p.channel = rest % w.channels;
      rest /= w.channels;
      tap = rest % all;
      rest /= all;
    }
    p.column = rest % w.columns.out;
    rest /= w.columns.out;
    p.row = rest % w.rows.out;
    rest /= w.rows.out;
    p.sample = rest;
    if (!w.channels_last) {
      p.sample = rest % w.samples;
      rest /= w.samples;
      tap = rest % all;
      p.channel = rest / all;
    }
    const int64_t row = element(w.rows, p.row, tap / w.columns.kernel);
    const int64_t column = element(w.columns, p.column, tap % w.columns.kernel);
    const bool inside = row >= 0 && row < w.rows.in && column >= 0 && column < w.columns.in;
    store_element<T>(memory(w.out, w.dtype), e,
                     inside ? load_element<T>(from_of(w), pixel(w, p, row, column)) : T(0));
  }
}

inline int64_t blocks_for(int64_t elements) {
  return smaller(kMostWindowBlocks, ceil_div(elements, kThreads));
}

template <template <class> class W>
void run_windows(const Windows& w) {
  const int64_t positions = W<float>::back ? w.rows.in * w.columns.in : w.rows.out * w.columns.out;
  const int64_t elements = w.samples * w.channels * positions;
  if (elements == 0) return;
  const auto kernel =
      w.dtype == DType::f64 ? &windows_kernel<double, W> : &windows_kernel<float, W>;
  start(kernel, blocks_for(elements), static_cast<cudaStream_t>(w.stream), w, elements);
}
inline void im2col(const Windows& w) {
  const int64_t elements = w.samples * w.channels * w.rows.out * w.columns.out * taps_of(w);
  if (elements == 0) return;
  const auto kernel = w.dtype == DType::f64 ? &im2col_kernel<double> : &im2col_kernel<float>;
  start(kernel, blocks_for(elements), static_cast<cudaStream_t>(w.stream), w, elements);
}

}  // namespace
}  // namespace windows
ONEPASS_END
