// The stages around an update (kernels/stages.h) in registers, with the random bits that they use.
#pragma once
#include "cuda/table.cuh"
#include "kernels/gradient.h"
#include "kernels/stages.h"

ONEPASS_BEGIN
namespace {

constexpr int kMostStates = 3;  // of an update

// The stages of one tensor, of which a warp has one in shared memory: registers are short.
template <class T>
struct StageTensor {
  T noise, keep, threshold, gain;
  StepStream random;
  DType dtype;  // of the parameter
  bool cautious, stochastic, has_master, has_average;
  bool dithers;  // its states are bfloat16, rounded by bits that start at the salt of each
  uint32_t salts[kMostStates];

  // The values of the tensor's row.
  ONEPASS_DEVICE void take(const Stages<T>& row) {
    noise = row.noise;
    keep = row.keep;
    threshold = row.threshold;
    gain = row.gain;
    cautious = row.cautious;
    stochastic = row.stochastic;
    dithers = row.dither;
  }
};

// f(w, word) with the random word of each of W neighbouring elements; `at` is a multiple of W. Four
// share a draw.
template <int W, class F>
ONEPASS_DEVICE void each_word(const StepStream& random, Draw draw, int64_t at, F f) {
  ONEPASS_UNROLL
  for (int w = 0; w < W; w += 4) {
    const Philox4 bits = step_bits(random, draw, uint64_t(at + w) >> 2);
    const int first = W < 4 ? int(at & 3) : 0;
    ONEPASS_UNROLL
    for (int i = 0; i < 4 && w + i < W; ++i) f(w + i, word_of(bits, first + i));
  }
}

// Before the update of W neighbouring elements, of which the first is `at`…
template <int W, class T>
ONEPASS_DEVICE void add_noise(const StageTensor<T>& tensor, int64_t at, T* gradient) {
  const T noise = tensor.noise;
  if (noise == T(0)) return;
  each_word<W>(tensor.random, Draw::noise, at, [&](int w, uint32_t word) {
    gradient[w] = gradient[w] + noise * T(gaussian(word));
  });
}
// The value that the update of an element changes: the parameter's, or that of its master copy.
template <class T>
ONEPASS_DEVICE T start_of(const StageTensor<T>& tensor, T param, T master) {
  if constexpr (sizeof(T) == 4)
    if (tensor.has_master) return master_of(master, param, nearest(master, tensor.dtype));
  return param;
}
// … and after it. `value` is what the update left.
template <class T>
ONEPASS_DEVICE T after_update(const StageTensor<T>& tensor, T before, T value, T gradient) {
  if (tensor.cautious) value = cautious(before, value, gradient, tensor.keep);
  return tensor.threshold != T(0) ? soft_threshold(value, tensor.threshold) : value;
}
// `value` becomes the parameter, `master` its copy before it is rounded.
template <int W, class T>
ONEPASS_DEVICE void round_and_average(const StageTensor<T>& tensor, int64_t at, T* value, T* master,
                                      T* average) {
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w) master[w] = value[w];
  if constexpr (sizeof(T) == 4) {
    if (tensor.dtype != DType::f32) {
      if (tensor.stochastic) {
        each_word<W>(tensor.random, Draw::rounding, at, [&](int w, uint32_t word) {
          value[w] = stochastic_rounding(value[w], tensor.dtype, word);
        });
      } else {
        ONEPASS_UNROLL
        for (int w = 0; w < W; ++w) value[w] = nearest(value[w], tensor.dtype);
      }
    }
  }
  if (!tensor.has_average) return;
  ONEPASS_UNROLL
  for (int w = 0; w < W; ++w)
    average[w] = running_average(average[w], tensor.has_master ? master[w] : value[w], tensor.gain);
}

}  // namespace
ONEPASS_END
