// The driver of losses over rows, on the row walk, and what their Works share: the denominator of a
// mean, the walk, the loss.
#pragma once
#include "cpu/dense.h"
#include "cpu/row_walk.h"

ONEPASS_BEGIN
namespace {
namespace rows {

template <class T>
struct RowLoss {
  const CrossEntropy& call;
  RowArrays arrays;
  T reduction = 1;  // 1/denominator

  explicit RowLoss(const CrossEntropy& c)
      : call(c),
        arrays{c.outer, c.classes, c.inner, c.dtype, c.logits, c.probabilities, c.dlogits} {}

  T class_weight(int64_t c) const {
    if (!call.weight.data) return T(1);
    double w;
    load_channels(call.weight, c, 1, 1, &w);
    return T(w);
  }
  bool ignored(int64_t position) const {
    return call.labels && call.labels[position] == call.ignore_index;
  }
  void store_losses(int64_t position, int64_t n, const T* loss) const {
    if (call.reduction == Reduction::none) put<T>(call.losses, call.dtype, position, n, loss);
  }
  void clear_row(int64_t at, T* scratch) const {
    if (!call.dlogits) return;
    if (same_dtype<T>(call.dtype)) {
      T* const row = static_cast<T*>(call.dlogits) + at;
      for (int64_t c = 0; c < call.classes; ++c) row[c] = T(0);
      return;
    }
    for (int64_t i = 0; i < kBlockElements; ++i) scratch[i] = T(0);
    for (int64_t c = 0; c < call.classes; c += kBlockElements)
      put<T>(call.dlogits, call.dtype, at + c, smaller(kBlockElements, call.classes - c), scratch);
  }
};

void set_loss(const CrossEntropy& call, double loss) { store_channels(call.loss, 0, 1, &loss); }

template <class T, class Work>
struct RowLossJob : RowWalk<T, Work> {
  using RowWalk<T, Work>::RowWalk;

  // Sums the weights of the labels that are not ignored.
  static void weight_task(void* context, int64_t index) {
    const RowLossJob& job = *static_cast<const RowLossJob*>(context);
    const int64_t end = job.end_of(index);
    double sum = 0;
    for (int64_t p = job.begin_of(index); p < end; ++p) {
      const bool counts = job.call.labels[p] != job.call.ignore_index;
      if (!job.call.weight.data) {
        sum += counts ? 1.0 : 0.0;
      } else if (counts) {
        double w;
        load_channels(job.call.weight, job.call.labels[p], 1, 1, &w);
        sum += w;
      }
    }
    job.partial[index] = sum;
  }

  double denominator() {
    if (this->call.reduction != Reduction::mean) return 1;
    if (!this->call.labels) return double(this->positions);
    return this->add_tasks(&weight_task, this->positions <= 8 * kSerialElements);
  }
  void run() {
    double partials[kMostTasks + 1];
    this->partial = partials;
    const double all = denominator();
    this->reduction = T(1 / all);
    const double sum = this->walk();
    if (this->call.reduction != Reduction::none) set_loss(this->call, sum / all);
  }
};

template <template <class> class Work>
void run_loss(const CrossEntropy& call) {
  if (call.outer * call.inner * call.classes == 0) {
    const double none = 0;
    if (call.reduction == Reduction::mean) set_loss(call, none / none);
    if (call.reduction == Reduction::sum) set_loss(call, 0);
    return;
  }
  if (call.dtype == DType::f64) {
    RowLossJob<double, Work<double>>(call).run();
  } else {
    RowLossJob<float, Work<float>>(call).run();
  }
}

}  // namespace rows
}  // namespace
ONEPASS_END
