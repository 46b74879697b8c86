// Runs one piece of an update with stages around it (kernels/stages.h). For each block, in the
// first-level cache: the stages before the update, the update, the stages after it.
#pragma once
#include "cpu/stages.h"
#include "cpu/stored_states.h"

ONEPASS_BEGIN
namespace {

template <class K, class T>
void run_staged_piece(const K k, const Elementwise& call, const Piece piece) {
  using S = Signature<K>;
  constexpr int kOwn = int(S::arity), kAll = kOwn + kStageOperands;
  const Tensor& tensor = call.tensors[piece.tensor];
  const Operand* operands = tensor.operands;
  const GradientRider& rider = call.rider;
  const double* row = call.hyper + tensor.hyper_set * call.hyper_size;
  const Stages<T> stages(row + call.hyper_size - kStageValues, kept_by<T>(k));
  const PrepareGradient<T> prepare(rider.unscale, rider.max_value, {rider.coefficient, rider.rest});
  const StepStream random{call.stages.seed, uint32_t(tensor.parameter), stages.step};
  alignas(64) T scratch[kAll][kBlockElements];
  alignas(64) T gradient[kBlockElements], before[kBlockElements];

  const bool narrow = size_of(operands[0].dtype) == 2, has_master = operands[kOwn + kMaster].data;
  const bool limited = rows_are_limited(stages.max_row_norm, tensor.rows > 0);
  const bool has_average = operands[kOwn + kAverage].data && !limited;
  const bool prepares = rider.active() || stages.noise != 0;
  const StoredStates<K, T> states(tensor, stages.dither, random);
  for (int64_t done = 0; done < piece.size; done += kBlockElements) {
    const int64_t begin = piece.begin + done, left = piece.size - done;
    const int64_t n = left < kBlockElements ? left : kBlockElements;
    T* at[kAll];
    for (int o = 0; o < kAll; ++o) {
      at[o] = is_direct<T>(operands[o]) ? static_cast<T*>(operands[o].data) + begin : scratch[o];
      if (at[o] != scratch[o] || !operands[o].data || states.owns(o)) continue;
      load_block(tensor, operands[o], begin, n, at[o]);
    }
    T* const param = at[0];
    StageBlock<T> block{};
    block.begin = begin;
    block.n = n;
    block.grad = at[kGrad];
    block.gradient = prepares ? gradient : at[kGrad];
    block.value = has_master ? at[kOwn + kMaster] : param;
    block.before = stages.cautious ? before : nullptr;
    block.rounded = narrow ? param : nullptr;
    block.average = has_average ? at[kOwn + kAverage] : nullptr;
    block.dtype = operands[0].dtype;
    before_update(block, stages, prepare, random);
    at[0] = block.value;
    at[kGrad] = block.gradient;
    states.run(k, begin, n, at);
    after_update(block, stages, random);
    at[0] = param;
    at[kGrad] = gradient;
    for (int64_t i = 0; i < n && rider.zero_grad; ++i) gradient[i] = T(0);
    for (int o = 0; o < kAll; ++o) {
      const bool is_grad = o == kGrad;
      if (!operands[o].data || states.owns(o) || (is_grad && !rider.zero_grad)) continue;
      if (at[o] == scratch[o] || is_grad) store_block(tensor, operands[o], begin, n, at[o]);
    }
  }
}

}  // namespace
ONEPASS_END
