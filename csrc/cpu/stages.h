// The stages around an update (kernels/stages.h), over a block of elements in the first-level
// cache. stages.cpp compiles their loops once per level, so that the units of optimizers need not.
#pragma once
#include "cpu/blocks.h"
#include "kernels/gradient.h"
#include "kernels/stages.h"

ONEPASS_BEGIN

// A block of a tensor. Pointers of what the tensor does without are null.
template <class T>
struct StageBlock {
  int64_t begin, n;  // in C order
  const T* grad;
  T* gradient;  // as the update sees it: grad itself if nothing changes it
  T* value;     // the parameter, or its master copy
  T* before;    // the value before the update; null unless the stages are cautious
  T* rounded;  // a 16-bit parameter as it is held; null for others. The value itself if there is no
               // master copy
  T* average;
  DType dtype;  // of the parameter
};

// Rounds values of elements [begin, begin + n) as a 16-bit parameter of `dtype` holds them, at
// random; n <= kBlockElements.
void round_at_random(DType dtype, int64_t begin, int64_t n, StepStream random, Draw draw,
                     const float* from, float* to);
ONEPASS_HD void round_at_random(DType, int64_t, int64_t, StepStream, Draw, const double*, double*) {
}

void before_update(const StageBlock<float>& block, const Stages<float>& stages,
                   const PrepareGradient<float>& prepare, StepStream random);
void before_update(const StageBlock<double>& block, const Stages<double>& stages,
                   const PrepareGradient<double>& prepare, StepStream random);
void after_update(const StageBlock<float>& block, const Stages<float>& stages, StepStream random);
void after_update(const StageBlock<double>& block, const Stages<double>& stages, StepStream random);

ONEPASS_END
