// The normalise driver: a norm over each channel by any rule (kernels/channel_norm_list.h), or a
// bias, with its epilogue, forward and backward, over dense (outer, channels, inner) arrays.
// normalise_call.h describes a call; its steps are channel_step.h, sum_pass.h and apply_pass.h;
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
// any magnitude and for any ratio of mean to deviation (moment_sums.h). Gradient sums add eight
// elements in the computing type, then double. If two passes or interleaved tasks need the keep
// bits, they are all drawn first, into a buffer 1/32 the size of x.
#pragma once
#include <stdlib.h>

#include "cpu/apply_pass.h"
#include "cpu/channel_step.h"
#include "cpu/parallel.h"
#include "cpu/sum_pass.h"
#include "kernels/bias.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

template <class R, class T, bool kForward>
struct Job {
  using Call = normalise::Call<typename R::Elements, T, kForward>;

  Call call;
  const ChannelStep<R, Call> step{call};
  const SumPass<Call> sum{call};

  explicit Job(const typename Call::Description& description) : call(description) {}

  // The gradient of a bias is applied by its sum pass.
  static constexpr bool kApplies = kForward || R::kScales;
  bool applies() const { return kApplies && call.applies(); }
  void apply_region(const Region& r, const Parameters<T>& p, bool scaled) const {
    if constexpr (kApplies)
      if (call.applies()) ApplyPass<Call>{call}.apply(r, p, scaled);
  }

  // Everything for a region that holds all of its channels.
  static void whole_task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const Region r = region_of(job.call.cut, index);
    alignas(kLine) T memory[Parameters<T>::kCount * kUnits];
    const auto p = Parameters<T>::in(memory, kUnits);
    bool scaled = job.step.prepare(r, p);
    if (job.call.sums()) {
      alignas(kLine) double s[kUnits], q[kUnits];
      job.sum.add(r, p, s, q, scaled);
      scaled = job.step.finish(r, s, q, 0, 1, p, scaled);
    }
    job.apply_region(r, p, scaled);
  }
  static void sum_task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const Region r = region_of(job.call.cut, index);
    double* s = job.call.partial + (2 * r.block) * job.call.cut.units + r.unit;
    job.sum.add(r, job.call.shared.from(r.unit), s, s + job.call.cut.units, job.call.scaled);
  }
  static void finish_task(void* context, int64_t index) {
    Job& job = *static_cast<Job*>(context);
    const Region r = channels_of(job.call.cut, index);
    const double* s = job.call.partial + r.unit;
    const bool before = __atomic_load_n(&job.call.scaled, __ATOMIC_RELAXED);
    if (job.step.finish(r, s, s + job.call.cut.units, 2 * job.call.cut.units, job.call.cut.blocks,
                        job.call.shared.from(r.unit), before))
      __atomic_store_n(&job.call.scaled, true, __ATOMIC_RELAXED);
  }
  static void prepare_task(void* context, int64_t strip) {
    Job& job = *static_cast<Job*>(context);
    const Region r = region_of(job.call.cut, strip);
    if (job.step.prepare(r, job.call.shared.from(r.unit))) job.call.scaled = true;
  }
  static void apply_task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const int64_t regions = job.call.cut.regions(), half = regions / 2;
    const int64_t reversed = index < half ? half - 1 - index : regions - 1 - (index - half);
    const Region r = region_of(job.call.cut, reversed);
    job.apply_region(r, job.call.shared.from(r.unit), job.call.scaled);
  }

  void run(void (*task)(void*, int64_t), int64_t tasks) {
    if (call.elements() <= kSerialElements) {
      for (int64_t i = 0; i < tasks; ++i) task(this, i);
    } else {
      parallel_for(tasks, task, this);
    }
  }
  bool draws_ahead() const {
    if (call.part() == Part::rest && call.kept_gradient) return false;
    return call.epilogue.drops() && ((R::kScales && !kForward) || call.cut.strips > 1);
  }
  static constexpr int64_t kDrawn = 2048;  // words of a task
  int64_t words() const { return ceil_div(call.elements(), 32); }
  static void draw_task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const int64_t first = index * kDrawn;
    keep_words(job.call.drawn + first, first, smaller(kDrawn, job.words() - first),
               job.call.norm.epilogue.dropout);
  }
  void run() {
    if (draws_ahead()) call.drawn = static_cast<uint32_t*>(malloc(size_t(words() + 1) * 4));
    if (call.drawn) {
      call.drawn[words()] = 0;
      run(&draw_task, ceil_div(words(), kDrawn));
    }
    run_passes();
    free(call.drawn);
  }
  void run_passes() {
    if (call.cut.blocks == 1) return run(&whole_task, call.cut.regions());
    const int64_t units = round_up(call.cut.units, kLine / int64_t(sizeof(T)));
    const size_t bytes = size_t(units) * Parameters<T>::kCount * sizeof(T) +
                         size_t(call.cut.blocks * call.cut.units) * 2 * sizeof(double);
    void* allocated = malloc(bytes + kLine);
    if (!allocated) {  // one task a channel group needs none
      call.cut.one_block();
      return run(&whole_task, call.cut.regions());
    }
    T* memory = reinterpret_cast<T*>(round_up(reinterpret_cast<intptr_t>(allocated), kLine));
    call.shared = Parameters<T>::in(memory, units);
    call.partial = reinterpret_cast<double*>(memory + units * Parameters<T>::kCount);
    if constexpr (R::kScales)  // regions that need no scale meet one where another does
      for (int64_t u = 0; u < 2 * units; ++u) call.shared.x_scale[u] = T(1);
    for (int64_t i = 0; i < call.cut.strips; ++i) prepare_task(this, i);
    if (call.sums()) {
      run(&sum_task, call.cut.regions());
      run(&finish_task, channel_groups(call.cut));
    }
    if (applies()) run(&apply_task, call.cut.regions());
    free(allocated);
  }
};

template <template <class> class R, bool kForward, class Description>
void run(const Description& norm) {
  if (norm.dtype == DType::f64) {
    Job<R<double>, double, kForward>(norm).run();
  } else {
    Job<R<float>, float, kForward>(norm).run();
  }
}

// Fills `saved` from the running statistics: in evaluation, and for an input without elements.
template <class R, class T>
void save_running(const ChannelNorm& norm, int64_t first, int64_t n) {
  const SavedRows<R, T> saved{static_cast<T*>(norm.saved) + first, norm.channels};
  double mean[kUnits], variance[kUnits];
  load_channels(norm.running_mean, first, n, 0, mean);
  load_channels(norm.running_var, first, n, 1, variance);
  for (int64_t k = 0; k < n; ++k) saved.set(k, R::save(mean[k], 0, variance[k], norm.eps));
}
template <template <class> class R>
void save_running(const ChannelNorm& norm) {
  for (int64_t c = 0; c < norm.channels; c += kUnits) {
    const int64_t n = smaller(kUnits, norm.channels - c);
    norm.dtype == DType::f64 ? save_running<R<double>, double>(norm, c, n)
                             : save_running<R<float>, float>(norm, c, n);
  }
}

// The rows of a share without elements.
template <class Share>
void leave_nothing(const ChannelNorm& norm, const Share& nothing) {
  for (int64_t c = 0; c < norm.channels; ++c)
    Share::Rows::store(nothing, norm.shares + c, norm.channels);
}
// Fills `saved`, and moves the running statistics, from the moments of all shares.
template <class R, class T>
void take_moments(const ChannelNorm& norm, int64_t first, int64_t n) {
  const SavedRows<R, T> saved{static_cast<T*>(norm.saved) + first, norm.channels};
  double mean[kUnits], variance[kUnits], count = 0;
  for (int64_t k = 0; k < n; ++k) {
    const auto all = merged_shares(norm.shares + first + k, norm.share_count, norm.channels);
    const auto s = statistics_of_shares<R>(all, norm.eps);
    saved.set(k, s.saved);
    mean[k] = s.mean;
    variance[k] = s.variance * R::bessel(all.count);
    count = all.count;  // the same for all channels
  }
  if (count == 0) return save_running<R, T>(norm, first, n);
  move_running<R>(norm.running_mean, first, n, mean, norm.momentum);
  move_running<R>(norm.running_var, first, n, variance, norm.momentum);
}
template <template <class> class R>
void take_moments(const ChannelNorm& norm) {
  for (int64_t c = 0; c < norm.channels; c += kUnits) {
    const int64_t n = smaller(kUnits, norm.channels - c);
    norm.dtype == DType::f64 ? take_moments<R<double>, double>(norm, c, n)
                             : take_moments<R<float>, float>(norm, c, n);
  }
}

}  // namespace normalise

ONEPASS_HD bool is_empty(const Channelwise& call) {
  return call.outer == 0 || call.channels == 0 || call.inner == 0;
}

void bias_act(const Channelwise& call) {
  if (!is_empty(call)) normalise::run<BiasRule, true>(call);
}

void bias_act_backward(const Channelwise& call) {
  if (is_empty(call)) return zero_channels(call.dbias, call.channels);
  normalise::run<BiasRule, false>(call);
}

template <template <class> class R>
void channel_norm(const ChannelNorm& norm) {
  if (norm.part == Part::rest) {
    normalise::take_moments<R>(norm);
  } else if (norm.part == Part::sums) {
    if (is_empty(norm)) normalise::leave_nothing(norm, ShareMoments::none());
  } else if (!norm.batch_statistics || is_empty(norm)) {
    normalise::save_running<R>(norm);
  }
  if (!is_empty(norm)) normalise::run<R, true>(norm);
}

template <template <class> class R>
void channel_norm_backward(const ChannelNorm& norm) {
  if (!is_empty(norm)) return normalise::run<R, false>(norm);
  zero_channels(norm.dweight, norm.channels);
  zero_channels(norm.dbias, norm.channels);
  if (norm.part == Part::sums) normalise::leave_nothing(norm, ShareSums{});
}

}  // namespace
ONEPASS_END
