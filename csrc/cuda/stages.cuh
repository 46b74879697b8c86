// The stages around an update (kernels/stages.h) in registers, for one element, with the random
// bits that they use.
#pragma once
#include "cuda/table.cuh"
#include "kernels/gradient.h"
#include "kernels/stages.h"

ONEPASS_BEGIN
namespace {

// The random bits of one use. Neighbours share a draw.
class StepWords {
 public:
  ONEPASS_DEVICE StepWords(StepStream random, Draw draw) : random_(random), draw_(draw) {}
  ONEPASS_DEVICE uint32_t at(int64_t index) {
    if (index >> 2 != group_) {
      group_ = index >> 2;
      bits_ = step_bits(random_, draw_, uint64_t(group_));
    }
    return word_of(bits_, int(index & 3));
  }

 private:
  StepStream random_;
  Draw draw_;
  int64_t group_ = -1;
  Philox4 bits_{};
};

constexpr int kMostStates = 3;  // of an update

// The stages of one tensor.
template <class T>
struct StageTensor {
  Stages<T> stages;
  StepStream random;
  DType dtype;  // of the parameter
  bool has_master, has_average;
  bool dithers;  // its states are bfloat16, rounded by bits that start at the salt of each
  uint32_t salts[kMostStates];
};

// The random words of both uses, for neighbouring elements.
struct StageWords {
  StepWords noise, rounding;
};
struct NoWords {};
template <class T>
ONEPASS_DEVICE StageWords words_of(const StageTensor<T>* tensor) {
  return {StepWords(tensor->random, Draw::noise), StepWords(tensor->random, Draw::rounding)};
}
ONEPASS_DEVICE NoWords words_of(std::nullptr_t) { return {}; }

// The stages of one element, from before the update to after it.
template <class T>
class StageElement {
 public:
  ONEPASS_DEVICE StageElement(const StageTensor<T>& tensor, StageWords* words)
      : tensor_(tensor), words_(words) {}

  // Returns the value that the update changes: the parameter's, or that of its master copy.
  ONEPASS_DEVICE T before(int64_t at, T param, T master, T* gradient) {
    const Stages<T>& s = tensor_.stages;
    if (s.noise != T(0)) *gradient = *gradient + s.noise * T(gaussian(words_->noise.at(at)));
    gradient_ = *gradient;
    before_ = param;
    if constexpr (sizeof(T) == 4)
      if (tensor_.has_master) before_ = master_of(master, param, nearest(master, tensor_.dtype));
    return before_;
  }
  // Returns the parameter; `value` is what the update left, and becomes the master copy.
  ONEPASS_DEVICE T after(int64_t at, T* value, T* average) {
    const Stages<T>& s = tensor_.stages;
    if (s.cautious) *value = cautious(before_, *value, gradient_, s.keep);
    if (s.threshold != T(0)) *value = soft_threshold(*value, s.threshold);
    T param = *value;
    if constexpr (sizeof(T) == 4) {
      if (tensor_.dtype != DType::f32) {
        param = s.stochastic ? stochastic_rounding(*value, tensor_.dtype, words_->rounding.at(at))
                             : nearest(*value, tensor_.dtype);
        if (!tensor_.has_master) *value = param;
      }
    }
    if (tensor_.has_average) *average = running_average(*average, *value, s.gain);
    return param;
  }

 private:
  const StageTensor<T>& tensor_;
  StageWords* words_;
  T gradient_, before_;
};

}  // namespace
ONEPASS_END
