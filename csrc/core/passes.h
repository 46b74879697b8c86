// The passes of an optimizer's step over its tensors: which of them it has, in which order, and
// what each moves. bind/plan.cpp runs them, and jax/update.cpp, to which _C lends them.
#pragma once
#include <algorithm>
#include <vector>

#include "core/backend.h"
#include "core/signature.h"
#include "core/stage_row.h"

namespace onepass {

// What decides which passes there are.
struct StepNeeds {
  bool global_norm = false;             // of the gradients
  bool decision = false;                // by the norm: to clip, to skip the step
  bool watch = false;                   // diagnostics
  bool factors = false, norms = false;  // of the rule (core/rule.h)
  bool update = true;                   // false: the caller runs it, on parts of the tensors
  bool limit = false;                   // of rows: StepStages::has_limit
};

// The calls of a step, and what one pass leaves for the next.
struct StepCalls {
  const Backend& backend;
  int32_t rule, variant;  // as Backend::update has them
  GlobalNorm norm{};
  // Its max_norm and skip_nonfinite are what the decision goes by on the CPU too.
  Elementwise update{};
  const Elementwise *watch_before = nullptr, *watch_after = nullptr;  // of diagnostics
  void* workspace = nullptr;            // of StepPasses::workspace bytes, or of the pass that runs
  KeptTable* tables = nullptr;          // of that pass: see Elementwise
  void* spare = nullptr;                // likewise
  GlobalNormResult measured{0, 0, -1};  // on the CPU; a device keeps its own
  bool skipped = false;                 // likewise
};

// How often a pass moves each array of one tensor: 1 where it reads or writes it, 2 where both.
struct Moves {
  const Access* accesses;  // of the rule's kernel: in the update, then in the pass before it
  size_t operands, first_factor, factors;  // of the rule
  bool zero_grad;
  bool limited;            // a pass after the update limits the rows of the parameter
  bool mastered;           // a copy of the parameter takes the steps
  std::vector<int> times;  // the operands of the rule, those of stages, the copy of diagnostics
  int& of_stage(StageOperand o) { return times[operands + size_t(o)]; }
  int& of_copy() { return times.back(); }
};

// A walk over the tensors of a step; one without a name is none, and moves nothing.
struct StepPass {
  const char* name;
  void (*move)(Moves*);
  int64_t (*workspace)(const StepCalls&);
  void (*run)(StepCalls*);
};

// In order. The decision to skip the step comes before the first pass that writes.
struct StepPasses {
  static constexpr int kMost = 8;  // that there can be
  const StepPass* at[kMost] = {};
  int count = 0;
  // The bytes for all passes, one after the other.
  int64_t workspace(const StepCalls& calls) const {
    int64_t bytes = 0;
    for (const StepPass* pass : *this) bytes = std::max(bytes, pass->workspace(calls));
    return bytes;
  }
  const StepPass* const* begin() const { return at; }
  const StepPass* const* end() const { return at + count; }
};

StepPasses passes_of(const StepNeeds& needs);

}  // namespace onepass
