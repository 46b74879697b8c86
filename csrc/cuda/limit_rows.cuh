// The pass that scales rows of parameters back to their largest norm: a warp a row, a launch a
// tensor. The bits are those of cpu/limit_rows.cpp.
#pragma once
#include "cuda/folds.cuh"
#include "cuda/launch.cuh"
#include "cuda/stages.cuh"
#include "kernels/rounding.h"
#include "kernels/row_limit.h"
#include "kernels/running_average.h"

ONEPASS_BEGIN
namespace {

static_assert(kRowLanes == kWarpSize, "a lane of the sum is a lane of the warp");

struct RowOperand {
  Memory memory;
  bool dense;
  int64_t strides[kMaxDims];
};
template <class T>
struct RowLimit {
  RowOperand param, average, master;  // data null: none
  int64_t rows, size, shape[kMaxDims];
  int32_t ndim;
  double max_norm;
  T gain;
  const double* numbers;  // null, or that max_norm and gain are where Elementwise::numbers says:
  int64_t first;          // the values of the stages
  const GlobalNormResult* norm;  // null, or a step that was not finite changes nothing
  bool at_random;                // how a parameter of 16 bits is rounded
  StepStream random;
  const int64_t* taken;  // null, or the step that the update has counted: that of `random`

  ONEPASS_DEVICE int64_t offset(const RowOperand& operand, int64_t at) const {
    if (operand.dense) return at;
    int64_t found = 0;
    for (int d = ndim - 1; d >= 0; --d) {
      found += at % shape[d] * operand.strides[d];
      at /= shape[d];
    }
    return found;
  }
  ONEPASS_DEVICE T load(const RowOperand& operand, int64_t at) const {
    return load_element<T>(operand.memory, offset(operand, at));
  }
  ONEPASS_DEVICE void store(const RowOperand& operand, int64_t at, T value) const {
    store_element<T>(operand.memory, offset(operand, at), value);
  }
};

template <int kMeasure, class T>
ONEPASS_DEVICE double squares(const RowLimit<T>& call, const RowOperand& value, int64_t begin,
                              int64_t end) {
  double sum = 0;
  for (int64_t at = begin + lane_of(threadIdx.x); at < end; at += kWarpSize)
    sum += square<kMeasure>(call.load(value, at));
  return warp_fold(sum, Plus{});
}

template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    limit_rows_kernel(const __grid_constant__ RowLimit<T> call) {
  if (call.norm && call.norm->first_nonfinite >= 0) return;
  const RowOperand& value = call.master.memory.data ? call.master : call.param;
  StepStream random = call.random;
  if (call.taken) random.step = uint32_t(uint64_t(*call.taken));
  double max_norm = call.max_norm;
  T gain = call.gain;
  if (call.numbers && call.numbers[0] != 0) {
    const double* values = call.numbers + 1 + call.first;
    max_norm = values[kMaxRowNorm];
    gain = T(values[kAverageGain]);
  }
  const int64_t warps = int64_t(gridDim.x) * kWarps;
  for (int64_t row = int64_t(blockIdx.x) * kWarps + warp_of(threadIdx.x); row < call.rows;
       row += warps) {
    const int64_t begin = row * call.size, end = begin + call.size;
    double sum = squares<0>(call, value, begin, end);
    const int measure = row_measure<T>(sum);
    if constexpr (kMeasures<T> > 1) {
      if (measure == 1) sum = squares<1>(call, value, begin, end);
      if (measure == 2) sum = squares<2>(call, value, begin, end);
    }
    const RowFactor<T> by = row_factor<T>(max_norm, sum, measure);
    if (by.is_one() && !call.average.memory.data) continue;
    for (int64_t at = begin + lane_of(threadIdx.x); at < end; at += kWarpSize) {
      T v = call.load(value, at);
      if (!by.is_one()) {
        v = limited(limited(v, by.power), by.scale);
        if (call.master.memory.data) call.store(call.master, at, v);
        if constexpr (sizeof(T) == 4)
          if (call.at_random)
            each_word<1>(random, Draw::limit, at, [&](int, uint32_t word) {
              v = stochastic_rounding(v, call.param.memory.dtype, word);
            });
        call.store(call.param, at, v);
        if constexpr (sizeof(T) == 4)
          if (value.memory.dtype != DType::f32) v = nearest(v, value.memory.dtype);
      }
      if (call.average.memory.data)
        call.store(call.average, at, running_average(call.load(call.average, at), v, gain));
    }
  }
}

// ---- host

inline RowOperand row_operand(const Tensor& tensor, const Operand& operand) {
  RowOperand made{memory(operand.data, operand.dtype), !operand.strides, {}};
  for (int d = 0; d < tensor.ndim && operand.strides; ++d) made.strides[d] = operand.strides[d];
  return made;
}
template <class T>
void limit_rows_of(const Elementwise& call, const Tensor& tensor, const double* values) {
  const Operand* stages = tensor.operands + call.stages.first;
  RowLimit<T> limit{};
  limit.param = row_operand(tensor, tensor.operands[0]);
  limit.average = row_operand(tensor, stages[kAverage]);
  limit.master = row_operand(tensor, stages[kMaster]);
  limit.rows = tensor.rows;
  limit.size = tensor.size / tensor.rows;
  limit.ndim = tensor.ndim;
  for (int d = 0; d < tensor.ndim; ++d) limit.shape[d] = tensor.shape[d];
  limit.max_norm = values[kMaxRowNorm];
  limit.gain = T(values[kAverageGain]);
  limit.numbers = call.numbers;
  limit.first = (tensor.hyper_set + 1) * call.hyper_size - kStageValues;
  limit.norm = call.rider.skip_nonfinite ? call.rider.norm : nullptr;
  limit.at_random = values[kStochastic] != 0 && size_of(tensor.operands[0].dtype) == 2;
  limit.random = {call.stages.seed, uint32_t(tensor.parameter),
                  uint32_t(uint64_t(values[kStageStep]))};
  limit.taken = call.rider.steps ? call.rider.steps + tensor.parameter : nullptr;
  const auto kernel = &limit_rows_kernel<T>;
  start(kernel, persistent_blocks(kernel, ceil_div(tensor.rows, kWarps)),
        static_cast<cudaStream_t>(call.stream), limit);
}
inline void limit_rows(const Elementwise& call) {
  for (int64_t t = 0; t < call.count; ++t) {
    const Tensor& tensor = call.tensors[t];
    const double* values = call.hyper + (tensor.hyper_set + 1) * call.hyper_size - kStageValues;
    if (tensor.size == 0 || !rows_are_limited(values[kMaxRowNorm], tensor.rows > 0)) continue;
    if (tensor.computing == DType::f64) {
      limit_rows_of<double>(call, tensor, values);
    } else {
      limit_rows_of<float>(call, tensor, values);
    }
  }
}

}  // namespace
ONEPASS_END
