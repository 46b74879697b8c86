// Calls on elements of 16 bits, as calls on floats: so many images or channels at a time that their
// floats stay in the caches. They lie in the workspace, behind the weights of a convolution.
#pragma once
#include "cpu/dense.h"
#include "cpu/window_lines.h"

ONEPASS_BEGIN
namespace windows {
namespace {

constexpr int64_t kChannelLanes = 32;  // of a task for the gradient of weights, where they are last

// Samples and channels that are converted together.
struct Together {
  int64_t samples, channels, elements;  // of both arrays
};
Together together(const Windows& w) {
  constexpr int64_t kElements = int64_t(1) << 18;
  const int64_t plane = w.rows.in * w.columns.in + w.rows.out * w.columns.out;
  const int64_t planes = larger(1, kElements / larger(1, plane));
  Together t{w.samples, w.channels, 0};
  if (w.dy) {  // a weight adds up all samples, and neighbouring lanes go together
    const int64_t lanes = w.channels_last ? kChannelLanes : 1;
    t.channels = smaller(w.channels, larger(1, planes / larger(1, w.samples) / lanes) * lanes);
  } else if (w.channels_last || planes >= w.channels) {
    t.samples = smaller(w.samples, larger(1, planes / larger(1, w.channels)));
  } else {
    t.samples = 1;
    t.channels = planes;
  }
  t.elements = t.samples * t.channels * plane;
  return t;
}
int64_t bytes_of_weights(const Windows& w) {
  const int64_t each = w.dtype == DType::f64 ? sizeof(double) : sizeof(float);
  return w.weight.data ? w.channels * taps_of(w) * each : 0;
}
[[maybe_unused]] int64_t workspace(const Windows& w) {
  const int64_t floats = size_of(w.dtype) == 2 ? together(w).elements : 0;
  return bytes_of_weights(w) + floats * int64_t(sizeof(float));
}

// Pieces of an array, `apart` from one to the next, and their floats, which lie side by side.
struct Pieces {
  char* memory;
  DType dtype;
  float* floats;
  int64_t count, apart, size, last;  // elements of a piece, and of the last one
  int64_t each;                      // pieces of a task
};
template <bool kBack>
void convert_task(void* context, int64_t index) {
  const Pieces& p = *static_cast<const Pieces*>(context);
  const int64_t end = smaller(p.count, (index + 1) * p.each);
  for (int64_t i = index * p.each; i < end; ++i) {
    const int64_t n = i == p.count - 1 ? p.last : p.size;
    float* const floats = p.floats + i * p.size;
    if constexpr (kBack) {
      put(p.memory, p.dtype, i * p.apart, n, floats);
    } else {
      fetch(p.memory, p.dtype, i * p.apart, n, floats);
    }
  }
}
// Between `floats` and the samples and channels from some on of an array of `positions` each.
template <bool kBack>
void convert(const Windows& w, const void* array, int64_t positions, int64_t sample,
             int64_t samples, int64_t channel, int64_t channels, float* floats) {
  if (samples * channels * positions == 0) return;
  const int64_t first = w.channels_last ? sample * positions * w.channels + channel
                                        : (sample * w.channels + channel) * positions;
  Pieces p{};
  p.memory = static_cast<char*>(const_cast<void*>(array)) + first * size_of(w.dtype);
  p.dtype = w.dtype;
  p.floats = floats;
  p.count = w.channels_last ? samples * positions : samples;
  p.apart = w.channels_last ? w.channels : w.channels * positions;
  p.size = p.last = w.channels_last ? channels : channels * positions;
  if (p.size == p.apart || p.count == 1) {  // one run
    const int64_t all = p.count * p.size;
    p.apart = p.size = kTaskElements;
    p.count = ceil_div(all, kTaskElements);
    p.last = all - (p.count - 1) * kTaskElements;
  }
  p.each = larger(1, kTaskElements / p.size);
  const int64_t tasks = ceil_div(p.count, p.each);
  tasks == 1 ? convert_task<kBack>(&p, 0) : parallel_for(tasks, &convert_task<kBack>, &p);
}

// The call on those floats, part by part. Whether it makes the gradient of weights is not to be
// seen by dy: without samples an array may lie nowhere.
template <bool kBack, bool kOfWeights>
void in_floats(const Windows& w, Run<Windows> run) {
  const Together t = together(w);
  const int64_t image = w.rows.in * w.columns.in, windows = w.rows.out * w.columns.out;
  const int64_t taken = kBack ? windows : image, made = kBack ? image : windows;
  float* const from =
      reinterpret_cast<float*>(static_cast<char*>(w.workspace) + bytes_of_weights(w));
  float* const other = from + t.samples * t.channels * taken;  // dy, or the result
  Windows part = w;
  part.dtype = DType::f32;
  part.from = from;
  // Once without samples too: then the gradient of weights is 0.
  for (int64_t n = 0; n < larger(1, w.samples); n += larger(1, part.samples))
    for (int64_t c = 0; c < w.channels; c += part.channels) {
      part.samples = smaller(t.samples, w.samples - n);
      part.channels = smaller(t.channels, w.channels - c);
      convert<false>(w, w.from, taken, n, part.samples, c, part.channels, from);
      if constexpr (kOfWeights) {
        convert<false>(w, w.dy, windows, n, part.samples, c, part.channels, other);
        part.dy = other;
        part.out = static_cast<float*>(w.out) + c * taps_of(w);
        run(part);
      } else {
        if (w.weight.data)
          part.weight.data =
              static_cast<char*>(w.weight.data) + c * taps_of(w) * size_of(w.weight.dtype);
        if (w.indices)
          part.indices = static_cast<float*>(w.indices) +
                         (n * w.channels + c) * windows;  // c is 0 where the channels are last
        part.out = other;
        run(part);
        convert<true>(w, w.out, made, n, part.samples, c, part.channels, other);
      }
    }
}
template <bool kBack = false, bool kOfWeights = false>
void in_computing_type(const Windows& w, Run<Windows> wide, Run<Windows> narrow) {
  if (size_of(w.dtype) == 2) return in_floats<kBack, kOfWeights>(w, narrow);
  w.dtype == DType::f64 ? wide(w) : narrow(w);
}

}  // namespace
}  // namespace windows
ONEPASS_END
