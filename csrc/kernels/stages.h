// The stages that run around an update, one element at a time, after the gradient's change
// (gradient.h):
//   noise on the prepared gradient → the update → cautious → soft threshold → rounding → average
// Each backend runs them where it holds the element: the CPU over a block in the first-level cache,
// CUDA in registers. If a 16-bit parameter has a master copy, the stages work on that; rounding
// then writes the parameter, and the average is that of the master copy.
#pragma once
#include "core/backend.h"
#include "core/rule.h"
#include "core/stage_row.h"
#include "kernels/cautious.h"
#include "kernels/gaussian.h"
#include "kernels/rounding.h"
#include "kernels/running_average.h"
#include "kernels/soft_threshold.h"

ONEPASS_BEGIN

// Where the random bits begin that round the state which is operand o, on whatever backend.
ONEPASS_HD uint32_t state_salt(const StepStream& random, int o) {
  return dither_salt(random.parameter, random.step, uint32_t(o - kFirstState));
}
// Whether a pass after the update limits the rows of a tensor. It then moves the average too, which
// is one of rows that keep the limit.
ONEPASS_HD bool rows_are_limited(double max_row_norm, bool has_rows) {
  return has_rows && max_row_norm > 0;
}

// The stages of the tensors that share a row of hyper-parameters; those left out change nothing.
template <class T>
struct Stages {
  T noise, keep, threshold, gain;
  double max_row_norm;
  bool cautious, stochastic, dither;
  uint32_t step;
  // `values` end a row (StageValue); for `kept` see core/rule.h.
  ONEPASS_HD Stages(const double* values, T kept)
      : noise(T(values[kNoise])),
        keep(kept),
        threshold(T(values[kThreshold])),
        gain(T(values[kAverageGain])),
        max_row_norm(values[kMaxRowNorm]),
        cautious(values[kCautious] != 0),
        stochastic(values[kStochastic] != 0),
        dither(values[kDither] != 0),
        step(uint32_t(uint64_t(values[kStageStep]))) {}
};

ONEPASS_END
