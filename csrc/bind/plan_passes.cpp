#include "bind/plan_passes.h"

#include <algorithm>
#include <stdexcept>

#include "kernels/gradient.h"

namespace onepass::bind {
namespace {

void global_norm(Calls* calls) { calls->backend.global_norm(calls->norm); }

// On a device the kernel decides by itself: the host waits for nothing.
void decide_on_cpu(Calls* calls) {
  const StepOptions& options = calls->options;
  calls->skipped = options.check_nonfinite && calls->measured.first_nonfinite >= 0;
  if (calls->skipped || !options.clip_norm) return;
  const host::Clip clip =
      host::clip_to(options.max_norm, calls->measured.clamped_norm, calls->measured.unit);
  calls->update.rider.coefficient *= clip.coefficient;
  calls->update.rider.rest = clip.rest;
}
void decide(Calls* calls) {
  if (calls->norm.result == &calls->measured) decide_on_cpu(calls);
}
// A pass of the rule before its update: Backend::factor or ::measure. It leaves the gradients for
// the update, which is the one to zero them.
template <auto kTable>
void before_update(Calls* calls) {
  if (calls->skipped) return;
  Elementwise call = calls->update;
  call.rider.zero_grad = false;
  call.workspace = calls->workspace;
  (calls->backend.*kTable)[calls->kernel.index][calls->kernel.variant](call);
}
// Diagnostics: PlanWatch's call, and the function of the backend.
template <auto kCall, auto kRun>
void watch(Calls* calls) {
  Elementwise call = (calls->watch.*kCall)();
  call.workspace = calls->workspace;
  (calls->backend.*kRun)(call);
}
void update(Calls* calls) {
  if (calls->skipped) return;
  calls->backend.update[calls->kernel.index][calls->kernel.variant](calls->update);
}
void limit_rows(Calls* calls) {
  if (calls->skipped) return;
  calls->backend.limit_rows(calls->update);
}

constexpr int times_of(Access access) {
  return access == Access::none ? 0 : access == Access::read_write ? 2 : 1;
}
// Accesses of a rule's kernel from `first` on: those of its update, then of the pass before it.
void add_accesses(Moves* moves, size_t first) {
  const size_t own = moves->kernel.operands.size() - moves->rule.factors.size();
  for (size_t o = 0; o < own; ++o) moves->times[o] += times_of(moves->kernel.accesses[first + o]);
}
void move_gradient(Moves* moves) { moves->times[kGrad] += 1; }
void move_factors(Moves* moves) {
  move_gradient(moves);
  for (size_t f = 0; f < moves->rule.factors.size(); ++f)
    moves->times[moves->rule.first_factor() + f] += 2;
}
void move_measured(Moves* moves) {
  add_accesses(moves, moves->kernel.operands.size() - moves->rule.factors.size());
}
void move_update(Moves* moves) {
  add_accesses(moves, 0);
  moves->times[kGrad] += moves->zero_grad;
  moves->of_stage(kMaster) += 2;
  moves->of_stage(kAverage) += moves->limited ? 0 : 2;
}
void move_rows(Moves* moves) {
  if (!moves->limited) return;
  moves->times[kParam] += moves->mastered ? 1 : 2;
  for (const StageOperand o : {kMaster, kAverage}) moves->of_stage(o) += 2;
}
void move_before(Moves* moves) {
  for (int* times : {&moves->times[kParam], &moves->times[kGrad], &moves->of_copy()}) *times += 1;
}
void move_after(Moves* moves) {
  for (int* times : {&moves->times[kParam], &moves->of_copy()}) *times += 1;
}

constexpr auto kNoWorkspace = [](const Calls&) -> int64_t { return 0; };
constexpr Pass kGlobalNorm{"global_norm", &move_gradient,
                           [](const Calls& c) { return workspace_bytes(c.backend, c.norm); },
                           &global_norm};
constexpr Pass kDecide{nullptr, nullptr, kNoWorkspace, &decide};
constexpr Pass kWatchBefore{
    "watch_before", &move_before,
    [](const Calls& c) { return measure_bytes(c.backend, c.watch.before()); },
    &watch<&PlanWatch::before, &Backend::watch_before>};
constexpr Pass kFactor{"factor", &move_factors,
                       [](const Calls& c) { return c.backend.factor_workspace(c.update); },
                       &before_update<&Backend::factor>};
constexpr Pass kMeasure{"measure", &move_measured,
                        [](const Calls& c) { return measure_bytes(c.backend, c.update); },
                        &before_update<&Backend::measure>};
constexpr Pass kUpdate{"update", &move_update,
                       [](const Calls& c) { return workspace_bytes(c.backend, c.update); },
                       &update};
constexpr Pass kLimitRows{"limit_rows", &move_rows, kNoWorkspace, &limit_rows};
constexpr Pass kWatchAfter{"watch_after", &move_after,
                           [](const Calls& c) { return measure_bytes(c.backend, c.watch.after()); },
                           &watch<&PlanWatch::after, &Backend::watch_after>};

}  // namespace

Passes::Passes(const StepOptions& options, const RuleInfo& rule, const PlanWatch& watch,
               const StepStages& stages) {
  if (options.measures()) {
    add(&kGlobalNorm);
    add(&kDecide);
  }
  if (watch.on) add(&kWatchBefore);
  if (!rule.factors.empty()) add(&kFactor);
  if (!rule.norms.empty()) add(&kMeasure);
  add(&kUpdate);
  if (stages.has_limit) add(&kLimitRows);
  if (watch.on) add(&kWatchAfter);
}

void Passes::add(const Pass* pass) {
  if (count == kMost) throw std::logic_error("a step has more passes than Passes::kMost");
  at[count++] = pass;
}

int64_t Passes::workspace(const Calls& calls) const {
  int64_t bytes = 0;
  for (const Pass* pass : *this) bytes = std::max(bytes, pass->workspace(calls));
  return bytes;
}

}  // namespace onepass::bind
