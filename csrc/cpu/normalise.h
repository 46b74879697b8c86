// The normalise driver: batch norm and bias, each with its epilogue, forward and backward, over
// dense (outer, channels, inner) arrays. The steps are channel_step.h, sum_pass.h and apply_pass.h;
// this file deals them out to tasks.
//
// A call is cut into regions, rows × units, by size alone (cut.h). A unit shares one set of
// parameters in memory order: a whole plane of one channel if planes are long, else one column of
// the matrix (outer, channels·inner). Narrow matrices take several rows as one.
//
// If each region holds whole channels, a region is one task: it sums, then applies while its memory
// is still in the second-level cache. Otherwise regions leave partial sums, which are combined in
// order before a second round of tasks. That round runs in reverse within each half, so that both
// threads start with the memory they touched last.
//
// Moments are sums of x - first element of the channel and of its square, as exact as in double at
// any magnitude and for any ratio of mean to deviation (sums.h). Gradient sums add eight elements
// in the computing type, then double. If two passes or interleaved tasks need the keep bits, they
// are all drawn first, into a buffer 1/32 the size of x.
#pragma once
#include <stdlib.h>

#include "cpu/apply_pass.h"
#include "cpu/parallel.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

template <class T, bool kNorm, bool kForward>
struct Job : ApplyPass<T, kNorm, kForward> {
  using Base = ApplyPass<T, kNorm, kForward>;
  using Base::applies;
  using Base::Base;
  using Base::cut;
  using Base::drawn;
  using Base::elements;
  using Base::epilogue;
  using Base::kBackward;
  using Base::partial;
  using Base::shared;
  using Base::sums;

  // Everything for a region that holds all of its channels.
  static void whole_task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const Region r = region_of(job.cut, index);
    alignas(kLine) T memory[Parameters<T>::kCount * kUnits];
    const auto p = Parameters<T>::in(memory, kUnits);
    job.prepare(r, p);
    if (job.sums()) {
      alignas(kLine) double s[kUnits], q[kUnits];
      job.sum_region(r, p, s, q);
      job.finish(r, s, q, 0, 1, p);
    }
    if (job.applies()) job.apply_region(r, p);
  }
  static void sum_task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const Region r = region_of(job.cut, index);
    double* s = job.partial + (2 * r.block) * job.cut.units + r.unit;
    job.sum_region(r, job.shared.from(r.unit), s, s + job.cut.units);
  }
  static void finish_task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const Region r = channels_of(job.cut, index);
    const double* s = job.partial + r.unit;
    job.finish(r, s, s + job.cut.units, 2 * job.cut.units, job.cut.blocks, job.shared.from(r.unit));
  }
  static void prepare_task(void* context, int64_t strip) {
    const Job& job = *static_cast<const Job*>(context);
    const Region r = region_of(job.cut, strip);
    job.prepare(r, job.shared.from(r.unit));
  }
  static void apply_task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const int64_t regions = job.cut.regions(), half = regions / 2;
    const int64_t reversed = index < half ? half - 1 - index : regions - 1 - (index - half);
    const Region r = region_of(job.cut, reversed);
    job.apply_region(r, job.shared.from(r.unit));
  }

  void run(void (*task)(void*, int64_t), int64_t tasks) {
    if (elements() <= kSerialElements) {
      for (int64_t i = 0; i < tasks; ++i) task(this, i);
    } else {
      parallel_for(tasks, task, this);
    }
  }
  bool draws_ahead() const { return epilogue.drops() && ((kNorm && kBackward) || cut.strips > 1); }
  static constexpr int64_t kDrawn = 2048;  // words of a task
  int64_t words() const { return ceil_div(elements(), 32); }
  static void draw_task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const int64_t first = index * kDrawn;
    keep_words(job.drawn + first, first, smaller(kDrawn, job.words() - first),
               job.norm.epilogue.dropout);
  }
  void run() {
    if (draws_ahead()) drawn = static_cast<uint32_t*>(malloc(size_t(words() + 1) * 4));
    if (drawn) {
      drawn[words()] = 0;
      run(&draw_task, ceil_div(words(), kDrawn));
    }
    run_passes();
    free(drawn);
  }
  void run_passes() {
    if (cut.blocks == 1) return run(&whole_task, cut.regions());
    const int64_t units = round_up(cut.units, kLine / int64_t(sizeof(T)));
    const size_t bytes = size_t(units) * Parameters<T>::kCount * sizeof(T) +
                         size_t(cut.blocks * cut.units) * 2 * sizeof(double);
    void* allocated = malloc(bytes + kLine);
    if (!allocated) {  // one task a channel group needs none
      cut.one_block();
      return run(&whole_task, cut.regions());
    }
    T* memory = reinterpret_cast<T*>(round_up(reinterpret_cast<intptr_t>(allocated), kLine));
    shared = Parameters<T>::in(memory, units);
    partial = reinterpret_cast<double*>(memory + units * Parameters<T>::kCount);
    for (int64_t i = 0; i < cut.strips; ++i) prepare_task(this, i);
    if (sums()) {
      run(&sum_task, cut.regions());
      run(&finish_task, channel_groups(cut));
    }
    if (applies()) run(&apply_task, cut.regions());
    free(allocated);
  }
};

template <bool kNorm, bool kForward>
void run(const Description<kNorm>& call) {
  if (call.dtype == DType::f64) {
    Job<double, kNorm, kForward>(call).run();
  } else {
    Job<float, kNorm, kForward>(call).run();
  }
}

// Without elements: the gradients of vectors are zero, the running statistics stay.
void zero_channels(const ChannelVector& v, int64_t channels) {
  const double zeros[kUnits] = {};
  for (int64_t c = 0; c < channels; c += kUnits)
    store_channels(v, c, smaller(kUnits, channels - c), zeros);
}

// Fills `saved` from the running statistics: in evaluation, and for an input without elements.
template <class T>
void save_running(const BatchNorm& norm, int64_t first, int64_t n) {
  T* rows = static_cast<T*>(norm.saved);
  double mean[kUnits], variance[kUnits];
  load_channels(norm.running_mean, first, n, 0, mean);
  load_channels(norm.running_var, first, n, 1, variance);
  for (int64_t k = 0; k < n; ++k) {
    const auto s = BatchNormRule<T>::save(mean[k], 0, variance[k], norm.eps);
    rows[first + k] = s.mean;
    rows[norm.channels + first + k] = s.lost;
    rows[2 * norm.channels + first + k] = s.rstd;
  }
}
void save_running(const BatchNorm& norm) {
  for (int64_t c = 0; c < norm.channels; c += kUnits) {
    const int64_t n = smaller(kUnits, norm.channels - c);
    norm.dtype == DType::f64 ? save_running<double>(norm, c, n) : save_running<float>(norm, c, n);
  }
}

}  // namespace normalise

ONEPASS_HD bool is_empty(const Channelwise& call) {
  return call.outer == 0 || call.channels == 0 || call.inner == 0;
}

void bias_act(const Channelwise& call) {
  if (!is_empty(call)) normalise::run<false, true>(call);
}

void bias_act_backward(const Channelwise& call) {
  if (is_empty(call)) return normalise::zero_channels(call.dbias, call.channels);
  normalise::run<false, false>(call);
}

void batch_norm(const BatchNorm& norm) {
  if (!norm.batch_statistics || is_empty(norm)) normalise::save_running(norm);
  if (!is_empty(norm)) normalise::run<true, true>(norm);
}

void batch_norm_backward(const BatchNorm& norm) {
  if (!is_empty(norm)) return normalise::run<true, false>(norm);
  normalise::zero_channels(norm.dweight, norm.channels);
  normalise::zero_channels(norm.dbias, norm.channels);
}

}  // namespace
ONEPASS_END
