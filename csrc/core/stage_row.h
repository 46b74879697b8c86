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
  kAverageGain,  // 1 - decay
  kStochastic,   // rounding of a 16-bit parameter, 0 or 1
  kMaxRowNorm,   // of the rows of a parameter; 0: no limit
  kDither,     // states, if all are bfloat16, are rounded so that they are right on average, 0 or 1
  kStageStep,  // of the parameter; GradientRider::steps come before it
  kStageValues
};

}  // namespace onepass
