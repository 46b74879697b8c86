// A launch of the elementwise driver (loops.cuh): its arguments, and what each thread first derives
// from them: the gradient's change and the row of hyper-parameters at the tensor's step.
#pragma once
#include "core/rule.h"
#include "cuda/table.cuh"
#include "kernels/dropout.h"
#include "kernels/gradient.h"

ONEPASS_BEGIN
namespace {

template <class T>
struct ElementwiseCall {
  TableShape shape;
  DropoutStream random{0, 0, 0};
  int64_t repeat = 1;
  PrepareGradient<T> prepare{1, GradientRider::kNoLimit, {1, 1}};
  const GlobalNormResult* norm = nullptr;
  double coefficient = 1, max_norm = -1;
  int64_t* steps = nullptr;
  double* scalars = nullptr;
  uint32_t* ticket = nullptr;
  const double* norms = nullptr;
  bool zero_grad = false, skip_nonfinite = false, zero_skipped = true;
  uint64_t seed = 0;                // of stages
  const double* numbers = nullptr;  // see Elementwise
  DeviceNumber grad_scale, device_max_norm;
};

// The rows of hyper-parameters: those that came with the call, or, for one that a graph replays,
// those that the device has been given since.
template <class T>
ONEPASS_DEVICE const unsigned char* current_rows(const ElementwiseCall<T>& call,
                                                 const TableView& table) {
  if (call.numbers && call.numbers[0] != 0)
    return reinterpret_cast<const unsigned char*>(call.numbers + 1);
  return table.rows();
}

// The scalars per parameter of an update; other functors have none.
template <class K, int kGradient>
constexpr size_t scalars_of() {
  if constexpr (kGradient >= 0) {
    return kScalars<typename K::rule>;
  } else {
    return 0;
  }
}

// The row of hyper-parameters of an update at the next step of a tensor, which the device counts:
// as the kernel takes it, or with the scalars as they are after the step.
enum class Scalars { of_kernel, after };
template <class K, Scalars kWhich, class T>
ONEPASS_DEVICE void next_row(const ElementwiseCall<T>& call, int32_t counter, double* row) {
  using R = typename K::rule;
  constexpr int kFirst = int(R::hyper.size), kEnd = kFirst + int(kScalars<R>);
  row[kFirst - 1] = double(call.steps[counter] + 1);
  ONEPASS_UNROLL
  for (int s = kFirst; s < kEnd; ++s)
    row[s] = call.scalars[int64_t(counter) * (kEnd - kFirst) + s - kFirst];
  if constexpr (R::advances_first || kWhich == Scalars::after) advance<R>(row);
}

// The riders of a step. Each thread computes them once, since only the device knows the norm.
template <class T>
struct Ride {
  PrepareGradient<T> prepare;
  bool zero_grad, skip;
  struct Plain {  // of its size, for shared memory, which holds what has no constructor
    T numbers[4];
    bool flags[2];
  };
};
template <class T>
ONEPASS_DEVICE Ride<T> ride(const ElementwiseCall<T>& call) {
  Ride<T> r{call.prepare, call.zero_grad, false};
  if (call.grad_scale.data) r.prepare.unscale = unscale_of<T>(value_of(call.grad_scale));
  if (!call.norm) return r;
  r.skip = call.skip_nonfinite && call.norm->first_nonfinite >= 0;
  if (r.skip && !call.zero_skipped) r.zero_grad = false;
  if (call.max_norm >= 0) {
    double max_norm = call.max_norm;
    if (call.device_max_norm.data) {
      max_norm = value_of(call.device_max_norm);
      if (!(max_norm >= 0)) max_norm = math::quiet_nan<double>();
    }
    Clip clip = clip_to(max_norm, call.norm->clamped_norm, call.norm->unit);
    clip.coefficient *= call.coefficient;
    r.prepare.set_coefficient(clip);
  }
  return r;
}

template <class T>
ElementwiseCall<T> arguments_of(const Elementwise& call, const TableShape& shape) {
  const GradientRider& rider = call.rider;
  ElementwiseCall<T> arguments;
  arguments.shape = shape;
  arguments.random = call.random;
  arguments.repeat = call.repeat;
  arguments.prepare = {rider.unscale, rider.max_value, {rider.coefficient, rider.rest}};
  arguments.norm = rider.norm;
  arguments.coefficient = rider.coefficient;
  arguments.max_norm = rider.max_norm;
  arguments.steps = rider.steps;
  arguments.scalars = rider.scalars;
  arguments.ticket = rider.ticket;
  arguments.norms = call.norms;
  arguments.zero_grad = rider.zero_grad;
  arguments.skip_nonfinite = rider.skip_nonfinite;
  arguments.zero_skipped = rider.zero_skipped;
  arguments.seed = call.stages.seed;
  arguments.numbers = call.numbers;
  arguments.grad_scale = rider.grad_scale;
  arguments.device_max_norm = rider.device_max_norm;
  return arguments;
}

}  // namespace
ONEPASS_END
