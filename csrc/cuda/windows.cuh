// Windows over images: a thread gathers an element of the result. Where the channels are last, it
// does so for W neighbouring ones at once.
#pragma once
#include "cuda/window_results.cuh"

ONEPASS_BEGIN
namespace windows {
namespace {

// C order: a thread has an element, and its neighbours those beside it.
template <class T, class W, class A>
__global__ void __launch_bounds__(kThreads)
    planes_kernel(const __grid_constant__ Windows w, int64_t elements) {
  const Shape<A> shape(w);
  const auto read = W::back ? shape.of_windows() : shape.of_elements();
  const auto written = W::back ? shape.of_elements() : shape.of_windows();
  using I = IndexOf<A>;
  for (int64_t e = int64_t(blockIdx.x) * kThreads + threadIdx.x; e < elements;
       e += int64_t(gridDim.x) * kThreads) {
    const Quotient beside = divide(e, written.columns), down = divide(beside.whole, written.rows);
    const Quotient plane = divide(down.whole, w.channels);
    const int64_t first = down.whole * read.image_step;
    const Place<I> p{plane.whole,    plane.rest, I(down.rest),
                     I(beside.rest), first,      from_of(w, first)};
    T y[1];
    W::template result<1, T>(w, shape, p, e, GivenWeights<1, T>{w, plane.rest}, y);
    store_unit<1, T>(memory(w.out, w.dtype), e, y);
  }
}

// The channels last: the channels are dealt out in parts of up to kThreads threads with W each; a
// block has a part, and its threads, after those of one position, neighbouring positions.
constexpr int kSharedWeights = 4096;  // values of a block
struct Part {
  int64_t channels, count;  // of a part (the last may have fewer), and how many parts
};
ONEPASS_HD Part parts_of(const Windows& w, int width, bool shared) {
  const int64_t room = shared ? kSharedWeights / (taps_of(w) * width) : kThreads;
  const int64_t channels = smaller(w.channels, width * smaller(room, kThreads));
  return {channels, ceil_div(w.channels, channels)};
}
template <int kWidth, class T, class W, class A, bool kShared>
__global__ void __launch_bounds__(kThreads, 2)
    channels_kernel(const __grid_constant__ Windows w, int64_t positions) {
  using Kernels = SharedWeights<kWidth, T>;
  ONEPASS_SHARED(typename Kernels::Piece, kept, [kShared ? kSharedWeights / Kernels::kPart : 1]);
  const Part part = parts_of(w, kWidth, kShared);
  const int64_t begin = int64_t(blockIdx.x) % part.count * part.channels;
  const int channels = int(smaller(part.channels, w.channels - begin));
  const int units = channels / kWidth, unit = int(threadIdx.x) % units;
  if constexpr (kShared) {
    const int all = int(taps_of(w));
    for (int i = int(threadIdx.x); i < all * channels; i += kThreads) {
      const int channel = i / all, to = i % all * channels + channel;
      kept[to / Kernels::kPart].value[to % Kernels::kPart] =
          load_element<T>(memory(w.weight), begin * all + i);
    }
    block_sync();
  }
  const Shape<A> shape(w);
  const auto read = W::back ? shape.of_windows() : shape.of_elements();
  const auto written = W::back ? shape.of_elements() : shape.of_windows();
  using I = IndexOf<A>;
  const int64_t channel = begin + unit * kWidth;
  const int together = kThreads / units, own = int(threadIdx.x) / units;
  if (own >= together) return;  // where units do not divide kThreads
  const int64_t step = int64_t(gridDim.x) / part.count * together;
  for (int64_t at = int64_t(blockIdx.x) / part.count * together + own; at < positions; at += step) {
    const Quotient beside = divide(at, written.columns), down = divide(beside.whole, written.rows);
    const int64_t first = down.whole * read.image_step + channel;
    const Place<I> p{down.whole, channel, I(down.rest), I(beside.rest), first, from_of(w, first)};
    const int64_t e = at * w.channels + channel;
    T y[kWidth];
    if constexpr (kShared) {
      const Kernels kernels{kept + unit * (kWidth / Kernels::kPart), channels / Kernels::kPart};
      W::template result<kWidth, T>(w, shape, p, e, kernels, y);
    } else {
      W::template result<kWidth, T>(w, shape, p, e, GivenWeights<kWidth, T>{w, channel}, y);
    }
    store_unit<kWidth, T>(memory(w.out, w.dtype), e, y);
  }
}

template <int kWidth, class T, class W, class A, bool kShared>
void run_channels(const Windows& w, int64_t positions) {
  const Part part = parts_of(w, kWidth, kShared);
  const int64_t together = kThreads / ceil_div(part.channels, kWidth);
  const int64_t each = larger(1, kMostWindowBlocks / part.count);
  start(&channels_kernel<kWidth, T, W, A, kShared>,
        smaller(each, ceil_div(positions, together)) * part.count,
        static_cast<cudaStream_t>(w.stream), w, positions);
}
template <class T, class W>
void run_typed(const Windows& w) {
  const int64_t positions =
      w.samples * (W::back ? w.rows.in * w.columns.in : w.rows.out * w.columns.out);
  const int64_t elements = positions * w.channels;
  if (elements == 0) return;
  const bool in_32_bits = is_short(w, W::adaptive);
  if (!w.channels_last)
    return start(in_32_bits ? &planes_kernel<T, W, ShortAxis> : &planes_kernel<T, W, WindowAxis>,
                 blocks_for(elements), static_cast<cudaStream_t>(w.stream), w, elements);
  // Eight channels' kernels must fit a block's shared memory.
  if (!in_32_bits || (W::weighted && taps_of(w) * 8 > kSharedWeights))
    return run_channels<1, T, W, WindowAxis, false>(w, positions);
  if constexpr (sizeof(T) == 4)
    if (w.dtype != DType::f32 && in_units<T>(w, 8))
      return run_channels<8, T, W, ShortAxis, W::weighted>(w, positions);
  if (in_units<T>(w, kUnit<T>))
    return run_channels<kUnit<T>, T, W, ShortAxis, W::weighted>(w, positions);
  run_channels<1, T, W, ShortAxis, W::weighted>(w, positions);
}
template <class W>
void run_windows(const Windows& w) {
  w.dtype == DType::f64 ? run_typed<double, W>(w) : run_typed<float, W>(w);
}

}  // namespace
}  // namespace windows
ONEPASS_END
