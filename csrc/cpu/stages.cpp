#include "cpu/stages.h"

#include "cpu/keep_words.h"

ONEPASS_BEGIN
namespace {

// Leaf loops: see loops.h.
template <class T>
[[gnu::noinline]] void prepare_run(const PrepareGradient<T> prepare, int64_t n, const T* from,
                                   T* to) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) to[i] = prepare(from[i]);
}
// The words of elements [begin, begin + n), begin a multiple of 4; n may be rounded up.
void draw_words(StepStream random, Draw draw, int64_t begin, int64_t n, uint32_t* words) {
  step_words(words, uint64_t(begin) / 4, (n + 3) / 4, random, draw);
}
template <class T>
[[gnu::noinline]] void noise_run(const T noise, int64_t n, const uint32_t* words, T* g) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) g[i] = g[i] + noise * T(gaussian(words[i]));
}
template <class T>
[[gnu::noinline]] void cautious_run(const T keep, int64_t n, const T* before, const T* g, T* p) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) p[i] = cautious(before[i], p[i], g[i], keep);
}
template <class T>
[[gnu::noinline]] void threshold_run(const T threshold, int64_t n, T* p) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) p[i] = soft_threshold(p[i], threshold);
}
template <class T>
[[gnu::noinline]] void average_run(const T gain, int64_t n, const T* p, T* a) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) a[i] = running_average(a[i], p[i], gain);
}
template <class S>
[[gnu::noinline]] void nearest_run(int64_t n, const float* from, float* to) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) to[i] = nearest<S>(from[i]);
}
template <class S>
[[gnu::noinline]] void follow_run(int64_t n, const float* param, float* master) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) master[i] = master_of(master[i], param[i], nearest<S>(master[i]));
}
[[gnu::noinline]] void stochastic_run(const DType dtype, int64_t n, const uint32_t* words,
                                      const float* from, float* to) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) to[i] = stochastic_rounding(from[i], dtype, words[i]);
}

void round(const StageBlock<float>& block, const Stages<float>& stages, StepStream random) {
  if (stages.stochastic) {
    round_at_random(block.dtype, block.begin, block.n, random, Draw::rounding, block.value,
                    block.rounded);
  } else if (block.dtype == DType::f16) {
    nearest_run<Half>(block.n, block.value, block.rounded);
  } else {
    nearest_run<BFloat16>(block.n, block.value, block.rounded);
  }
}
void follow(const StageBlock<float>& block) {
  if (!block.rounded || block.rounded == block.value) return;
  if (block.dtype == DType::f16) {
    follow_run<Half>(block.n, block.rounded, block.value);
  } else {
    follow_run<BFloat16>(block.n, block.rounded, block.value);
  }
}
void follow(const StageBlock<double>&) {}
void round(const StageBlock<double>&, const Stages<double>&, StepStream) {}

template <class T>
void prepare_block(const StageBlock<T>& block, const Stages<T>& stages,
                   const PrepareGradient<T>& prepare, StepStream random) {
  if (block.gradient != block.grad) prepare_run(prepare, block.n, block.grad, block.gradient);
  if (stages.noise != 0) {
    alignas(64) uint32_t words[kBlockElements];
    draw_words(random, Draw::noise, block.begin, block.n, words);
    noise_run(stages.noise, block.n, words, block.gradient);
  }
  follow(block);
  if (block.before)
    for (int64_t i = 0; i < block.n; ++i) block.before[i] = block.value[i];
}
template <class T>
void finish_block(const StageBlock<T>& block, const Stages<T>& stages, StepStream random) {
  if (block.before) cautious_run(stages.keep, block.n, block.before, block.gradient, block.value);
  if (stages.threshold != 0) threshold_run(stages.threshold, block.n, block.value);
  if (block.rounded) round(block, stages, random);
  if (block.average) average_run(stages.gain, block.n, block.value, block.average);
}

}  // namespace

void round_at_random(DType dtype, int64_t begin, int64_t n, StepStream random, Draw draw,
                     const float* from, float* to) {
  alignas(64) uint32_t words[kBlockElements + 8];
  const int64_t skip = begin % 4;
  draw_words(random, draw, begin - skip, n + skip, words);
  stochastic_run(dtype, n, words + skip, from, to);
}
void before_update(const StageBlock<float>& block, const Stages<float>& stages,
                   const PrepareGradient<float>& prepare, StepStream random) {
  prepare_block(block, stages, prepare, random);
}
void before_update(const StageBlock<double>& block, const Stages<double>& stages,
                   const PrepareGradient<double>& prepare, StepStream random) {
  prepare_block(block, stages, prepare, random);
}
void after_update(const StageBlock<float>& block, const Stages<float>& stages, StepStream random) {
  finish_block(block, stages, random);
}
void after_update(const StageBlock<double>& block, const Stages<double>& stages,
                  StepStream random) {
  finish_block(block, stages, random);
}

ONEPASS_END
