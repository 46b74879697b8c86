// The cross entropy driver: the denominator of a mean, the walk, and the loss.
#pragma once
#include "cpu/cross_entropy_work.h"

ONEPASS_BEGIN
namespace {
namespace rows {

void set_loss(const CrossEntropy& call, double loss) { store_channels(call.loss, 0, 1, &loss); }

template <class T>
struct CrossEntropyJob : RowWalk<T, CrossEntropyWork<T>> {
  using RowWalk<T, CrossEntropyWork<T>>::RowWalk;

  // Sums the weights of the labels that are not ignored.
  static void weight_task(void* context, int64_t index) {
    const CrossEntropyJob& job = *static_cast<const CrossEntropyJob*>(context);
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

}  // namespace rows

void cross_entropy(const CrossEntropy& call) {
  if (call.outer * call.inner * call.classes == 0) {
    const double none = 0;
    if (call.reduction == Reduction::mean) rows::set_loss(call, none / none);
    if (call.reduction == Reduction::sum) rows::set_loss(call, 0);
    return;
  }
  if (call.dtype == DType::f64) {
    rows::CrossEntropyJob<double>(call).run();
  } else {
    rows::CrossEntropyJob<float>(call).run();
  }
}

}  // namespace
ONEPASS_END
