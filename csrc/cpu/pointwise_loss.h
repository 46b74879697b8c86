// The driver of elementwise losses (kernels/loss.h): value, gradient and sum in one pass over
// memory. The values stay in the first-level cache, where they are added block by block in the
// order of core/squares.h, so that the sum has the same bits on every level and device and for any
// number of threads.
#pragma once
#include "core/sizes.h"
#include "cpu/columns.h"
#include "cpu/dense.h"
#include "cpu/loops.h"
#include "cpu/parallel.h"
#include "cpu/uniform.h"
#include "kernels/loss.h"

ONEPASS_BEGIN
namespace {
namespace losses {

// `gradient` may be x or t.
template <class L, class T, class W>
[[gnu::noinline]] void leaf(const L loss, T scale, int64_t n, const T* x, const T* t, W weight,
                            T* gradient, T* values) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const LossTerm<T> term = loss_term(loss, x[i], t[i], weight[i], scale);
    values[i] = term.loss;
    gradient[i] = term.gradient;
  }
}
template <class L, class T, class W>
void chosen_leaf(const L& loss, T scale, int64_t n, const T* x, const T* t, W weight, T* gradient,
                 T* values) {
  if constexpr (!kHasFlag<L>) {
    leaf(loss, scale, n, x, t, weight, gradient, values);
  } else if (loss.flag()) {
    leaf(typename L::Yes{}, scale, n, x, t, weight, gradient, values);
  } else {
    leaf(typename L::No{}, scale, n, x, t, weight, gradient, values);
  }
}
template <class T>
[[gnu::noinline]] bool any_refused(int64_t n, const T* v) {
  int32_t any = 0;  // no early exit: it would not vectorise
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) any |= no_probability(v[i]) ? 1 : 0;
  return any != 0;
}

template <template <class> class L, class T>
struct Job {
  const PointwiseLoss& call;
  const Tensor& tensor;
  const L<T> loss;
  const T scale;
  const bool stream;   // the gradient goes past the caches
  double* const sums;  // of the blocks

  explicit Job(const PointwiseLoss& c)
      : call(c),
        tensor(c.tensor),
        loss(make_functor<L<T>, T>(c.hyper)),
        scale(T(1 / c.divisor)),
        stream(streams(c.tensor)),
        sums(static_cast<double*>(c.workspace)) {}
  static bool streams(const Tensor& tensor) {
    const Operand& gradient = tensor.operands[kLossGradient];
    return is_streamed(tensor.size * int64_t(sizeof(T))) && is_direct<T>(gradient) &&
           gradient.data != tensor.operands[kLossInput].data &&
           gradient.data != tensor.operands[kLossTarget].data;
  }

  const T* load(int operand, int64_t begin, int64_t n, T* scratch) const {
    const Operand& from = tensor.operands[operand];
    if (is_direct<T>(from)) return static_cast<const T*>(from.data) + begin;
    load_block(tensor, from, begin, n, scratch);
    return scratch;
  }
  void block(int64_t begin, int64_t n) const {
    alignas(64) T scratch[4][kBlockElements];
    alignas(64) T values[kBlockElements];
    const T* x = load(kLossInput, begin, n, scratch[0]);
    const T* t = load(kLossTarget, begin, n, scratch[1]);
    const Operand& out = tensor.operands[kLossGradient];
    const bool direct = is_direct<T>(out) && !stream;
    T* gradient = direct ? static_cast<T*>(out.data) + begin : scratch[2];
    if (kHasPosWeight<L<T>> && tensor.operands[kLossPosWeight].data) {
      chosen_leaf(loss, scale, n, x, t, load(kLossPosWeight, begin, n, scratch[3]), gradient,
                  values);
    } else {
      chosen_leaf(loss, scale, n, x, t, Uniform<T>{T(1)}, gradient, values);
    }
    if (stream) {
      stream_run(static_cast<T*>(out.data) + begin, gradient, n);
    } else if (!direct) {
      store_block(tensor, out, begin, n, gradient);
    }
    if (tensor.operands[kLosses].data)
      store_block(tensor, tensor.operands[kLosses], begin, n, values);
    if (call.loss.data)
      sums[begin / kBlockElements] =
          n == kBlockElements ? add_up_block(Values{}, values) : add_up(Values{}, values, n);
  }
  static void task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const int64_t end = smaller((index + 1) * kGroupElements, job.tensor.size);
    for (int64_t begin = index * kGroupElements; begin < end; begin += kBlockElements)
      job.block(begin, smaller(kBlockElements, end - begin));
    if (job.stream) stream_fence();
  }

  // Leaves 1 for each task that holds a value outside 0 to 1.
  static void check_task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const int64_t end = smaller((index + 1) * kGroupElements, job.tensor.size);
    bool any = false;
    for (int64_t begin = index * kGroupElements; begin < end; begin += kBlockElements) {
      const int64_t n = smaller(kBlockElements, end - begin);
      T scratch[kBlockElements];
      for (const int operand : {int(kLossInput), int(kLossTarget)})
        any |= any_refused(n, job.load(operand, begin, n, scratch));
    }
    job.sums[index] = any ? 1 : 0;
  }
  void find_refusal(int64_t first, Refusal* found) const {
    T scratch[kBlockElements];
    for (int64_t i = first;; ++i) {
      for (const int operand : {int(kLossInput), int(kLossTarget)}) {
        const T v = *load(operand, i, 1, scratch);
        if (no_probability(v)) return void(*found = {i, operand, double(v)});
      }
    }
  }

  void each_task(void (*function)(void*, int64_t), int64_t tasks) {
    if (tensor.size <= kSerialElements) {
      for (int64_t i = 0; i < tasks; ++i) function(this, i);
    } else {
      parallel_for(tasks, function, this);
    }
  }
  void run() {
    const int64_t tasks = ceil_div(tensor.size, kGroupElements);
    if (kTakesProbabilities<L<T>> && call.refusal) {
      each_task(&check_task, tasks);
      for (int64_t i = 0; i < tasks; ++i)
        if (sums[i] != 0) return find_refusal(i * kGroupElements, call.refusal);
    }
    each_task(&task, tasks);
    if (!call.loss.data) return;
    const double loss_of_all =
        add_up(Values{}, sums, ceil_div(tensor.size, kBlockElements)) / call.divisor;
    store_channels(call.loss, 0, 1, &loss_of_all);
  }
};

}  // namespace losses

template <template <class> class L>
void pointwise_loss(const PointwiseLoss& call) {
  if (call.tensor.computing == DType::f64) {
    losses::Job<L, double>(call).run();
  } else {
    losses::Job<L, float>(call).run();
  }
}
int64_t pointwise_loss_workspace(const PointwiseLoss& call) {
  return ceil_div(call.tensor.size, kBlockElements) * int64_t(sizeof(double));
}

}  // namespace
ONEPASS_END
