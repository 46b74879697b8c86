// nll_loss and wasserstein_1d: loss and gradient in one launch, after the helper kernels of cross
// entropy. A thread of nll_loss handles one element of the gradient (zero except at the label), a
// thread of wasserstein_1d one row.
#pragma once
#include "cuda/cross_entropy.cuh"
#include "kernels/nll_loss.h"
#include "kernels/wasserstein.h"

ONEPASS_BEGIN
namespace {
namespace rows {

template <class T>
__global__ void __launch_bounds__(kThreads, 2) nll_kernel(const __grid_constant__ Call call) {
  ONEPASS_SHARED(double, parts, [kWarps]);
  const T reduction = T(1 / denominator(call));
  const Memory in = call.in(call.logits), out = call.in(call.dlogits);
  const int64_t elements = call.positions() * call.classes;
  double added = 0;
  for (int64_t e = int64_t(blockIdx.x) * kThreads + threadIdx.x; e < elements;
       e += int64_t(gridDim.x) * kThreads) {
    const int64_t c = e / call.inner % call.classes;
    const int64_t p = e / (call.inner * call.classes) * call.inner + e % call.inner;
    const int64_t label = call.labels[p];
    const bool ignored = label == call.ignore_index;
    const bool bad = !ignored && !call.in_range(label);
    T gradient = T(0), loss = T(0);
    if (!ignored && label == c) {
      const T w = T(load_wide(memory(call.weight), c, 1));
      loss = nll_formula::loss(w, load_element<T>(in, e));
      gradient = nll_formula::gradient(w, reduction);
    } else if (bad) {
      loss = math::quiet_nan<T>();
      if (call.bad_label) tell_host(call.bad_label, 1u);
    }
    const bool tells = ignored || bad ? c == 0 : label == c;  // one element of each row
    if (tells) {
      added += double(loss);
      if (call.reduction == Reduction::none) store_element<T>(call.in(call.losses), p, loss);
    }
    store_element<T>(out, e, gradient);
  }
  added = block_fold(added, Plus{}, parts);
  if (threadIdx.x == 0) call.partials[blockIdx.x] = added;
}

template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    wasserstein_kernel(const __grid_constant__ Call call) {
  ONEPASS_SHARED(double, parts, [kWarps]);
  const T reduction = T(1 / denominator(call));
  const Memory x = call.in(call.logits), t = call.in(call.probabilities);
  const Memory out = call.in(call.dlogits);
  double added = 0;
  for (int64_t r = int64_t(blockIdx.x) * kThreads + threadIdx.x; r < call.outer;
       r += int64_t(gridDim.x) * kThreads) {
    const int64_t begin = r * call.classes;
    double difference = 0, sum = 0;
    for (int64_t at = begin; at < begin + call.classes; ++at) {
      difference =
          wasserstein_formula::next(difference, load_element<T>(x, at), load_element<T>(t, at));
      sum += wasserstein_formula::distance(difference);
      store_element<T>(out, at, wasserstein_formula::direction<T>(difference));
    }
    T behind = T(0);
    for (int64_t at = begin + call.classes - 1; at >= begin; --at) {
      behind += load_element<T>(out, at);
      store_element<T>(out, at, behind * reduction);
    }
    added += sum;
    if (call.reduction == Reduction::none) store_element<T>(call.in(call.losses), r, T(sum));
  }
  added = block_fold(added, Plus{}, parts);
  if (threadIdx.x == 0) call.partials[blockIdx.x] = added;
}

}  // namespace rows

inline void nll_loss(const CrossEntropy& c) {
  if (!c.workspace) return record_error("nll_loss needs a workspace");
  const rows::Call call = rows::describe(c, rows::kBlocks, 1);
  rows::run_kernel<kThreads>(
      c, call, c.dtype == DType::f64 ? &rows::nll_kernel<double> : &rows::nll_kernel<float>);
}
inline void wasserstein_1d(const CrossEntropy& c) {
  if (!c.workspace) return record_error("wasserstein_1d needs a workspace");
  const rows::Call call = rows::describe(c, rows::kBlocks, kThreads);
  rows::run_kernel<kThreads>(
      c, call,
      c.dtype == DType::f64 ? &rows::wasserstein_kernel<double> : &rows::wasserstein_kernel<float>);
}

}  // namespace
ONEPASS_END
