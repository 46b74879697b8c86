// Where a call holds the operands and values of the stages around an update (kernels/stages.h):
// after the rule's operands, and after the values of its row.
#pragma once

namespace onepass {

// While StepStages are active, a tensor has kStageOperands more operands behind those of the rule,
// each of them null where the tensor does without, and a row of hyper-parameters kStageValues more
// values behind all others.
enum StageOperand : int {
  kAverage,  // of the parameter
  kMaster,   // float32 copy of a 16-bit parameter
  kStageOperands
};
enum StageValue : int {
  kNoise,        // standard deviation
  kCautious,     // 0 or 1
  kThreshold,    // lr · l1
  kAverageGain,  // 1 - ema_decay
  kStochastic,   // 0 or 1: a 16-bit parameter is rounded at random
  kMaxRowNorm,   // max_weight_norm, of the rows of a parameter; 0: no limit
  kDither,       // 0 or 1: states of fewer bits are rounded so that they are right on average
  kStageStep,    // of the parameter; GradientRider::steps come before it
  kStageValues
};

// Their names at the border, in the same order. Python sets all values but the step, and reads
// their names from here (STAGES).
constexpr const char* kStageOperandNames[kStageOperands] = {"averages", "masters"};
constexpr const char* kStageNames[] = {
    "noise", "cautious", "l1", "average_gain", "stochastic_rounding", "max_weight_norm", "dither"};
static_assert(sizeof(kStageNames) / sizeof(*kStageNames) == kStageStep, "a name for each value");

}  // namespace onepass
