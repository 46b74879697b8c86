// Decides which passes a step runs over its tensors, and in which order.
#pragma once
#include <vector>

#include "bind/kernel_info.h"
#include "bind/plan_options.h"
#include "bind/plan_watch.h"
#include "core/stage_row.h"

namespace onepass::bind {

// The calls of a step, and what one pass leaves for the next.
struct Calls {
  const Backend& backend;
  const StepOptions& options;
  const KernelInfo& kernel;
  const PlanWatch& watch;
  GlobalNorm norm{};
  Elementwise update{};
  void* workspace = nullptr;            // of passes that measure tensors
  GlobalNormResult measured{0, 0, -1};  // on the CPU; a device keeps its own
  bool skipped = false;                 // likewise
};

// How often a pass moves each array of one tensor: 1 where it reads or writes it, 2 where both.
struct Moves {
  const RuleInfo& rule;
  const KernelInfo& kernel;
  bool zero_grad;
  bool limited;            // a pass after the update limits the rows of the parameter
  bool mastered;           // a copy of the parameter takes the steps
  std::vector<int> times;  // the operands of the rule, those of stages, the copy of PlanWatch
  int& of_stage(StageOperand o) { return times[kernel.operands.size() + size_t(o)]; }
  int& of_copy() { return times.back(); }
};

// A walk over the tensors of a step; one without a name is none, and moves nothing.
struct Pass {
  const char* name;
  void (*move)(Moves*);
  int64_t (*workspace)(const Calls&);
  void (*run)(Calls*);
};

// In order. The decision to skip the step comes before the first pass that writes.
struct Passes {
  static constexpr int kMost = 8;  // that there can be
  const Pass* at[kMost];
  int count = 0;
  void add(const Pass* pass);
  Passes(const StepOptions& options, const RuleInfo& rule, const PlanWatch& watch,
         const StepStages& stages);
  // The bytes for all passes, one after the other.
  int64_t workspace(const Calls& calls) const;
  const Pass* const* begin() const { return at; }
  const Pass* const* end() const { return at + count; }
};

}  // namespace onepass::bind
