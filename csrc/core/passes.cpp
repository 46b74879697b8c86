#include "core/passes.h"

#include "core/workspace.h"
#include "kernels/gradient.h"

namespace onepass {
namespace {

void lend_memory(const StepCalls& calls, Elementwise* call) {
  call->workspace = calls.workspace;
  call->tables = calls.tables;
  call->spare = calls.spare;
}

void global_norm(StepCalls* calls) {
  calls->norm.workspace = calls->workspace;
  calls->norm.tables = calls->tables;
  calls->norm.spare = calls->spare;
  calls->backend.global_norm(calls->norm);
}

// On a device the kernel decides by itself: the host waits for nothing.
void decide(StepCalls* calls) {
  const GlobalNormResult& measured = calls->measured;
  if (calls->norm.result != &measured) return;
  GradientRider& rider = calls->update.rider;
  calls->skipped = rider.skip_nonfinite && measured.first_nonfinite >= 0;
  if (calls->skipped || rider.max_norm < 0) return;
  const host::Clip clip = host::clip_to(rider.max_norm, measured.clamped_norm, measured.unit);
  rider.coefficient *= clip.coefficient;
  rider.rest = clip.rest;
}
// A pass of the rule before its update: Backend::factor or ::measure. It leaves the gradients for
// the update, which is the one to zero them.
template <auto kTable>
void before_update(StepCalls* calls) {
  if (calls->skipped) return;
  Elementwise call = calls->update;
  call.rider.zero_grad = false;
  lend_memory(*calls, &call);
  (calls->backend.*kTable)[calls->rule][calls->variant](call);
}
// Diagnostics: the call, and the function of the backend.
template <auto kCall, auto kRun>
void watch(StepCalls* calls) {
  Elementwise call = *(calls->*kCall);
  lend_memory(*calls, &call);
  (calls->backend.*kRun)(call);
}
template <auto kCall>
int64_t watch_bytes(const StepCalls& calls) {
  return measure_bytes(calls.backend, *(calls.*kCall));
}
void update(StepCalls* calls) {
  if (calls->skipped) return;
  lend_memory(*calls, &calls->update);
  calls->backend.update[calls->rule][calls->variant](calls->update);
}
void limit_rows(StepCalls* calls) {
  if (calls->skipped) return;
  calls->backend.limit_rows(calls->update);
}

constexpr int times_of(Access access) {
  return access == Access::none ? 0 : access == Access::read_write ? 2 : 1;
}
// Accesses of a rule's kernel from `first` on: those of its update, then of the pass before it.
void add_accesses(Moves* moves, size_t first) {
  const size_t own = moves->operands - moves->factors;
  for (size_t o = 0; o < own; ++o) moves->times[o] += times_of(moves->accesses[first + o]);
}
void move_gradient(Moves* moves) { moves->times[kGrad] += 1; }
void move_factors(Moves* moves) {
  move_gradient(moves);
  for (size_t f = 0; f < moves->factors; ++f) moves->times[moves->first_factor + f] += 2;
}
void move_measured(Moves* moves) { add_accesses(moves, moves->operands - moves->factors); }
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

constexpr auto kNoWorkspace = [](const StepCalls&) -> int64_t { return 0; };
constexpr StepPass kGlobalNorm{
    "global_norm", &move_gradient,
    [](const StepCalls& c) { return workspace_bytes(c.backend, c.norm); }, &global_norm};
constexpr StepPass kDecide{nullptr, nullptr, kNoWorkspace, &decide};
constexpr StepPass kWatchBefore{"watch_before", &move_before,
                                &watch_bytes<&StepCalls::watch_before>,
                                &watch<&StepCalls::watch_before, &Backend::watch_before>};
constexpr StepPass kFactor{"factor", &move_factors,
                           [](const StepCalls& c) { return factor_bytes(c.backend, c.update); },
                           &before_update<&Backend::factor>};
constexpr StepPass kMeasure{"measure", &move_measured,
                            [](const StepCalls& c) { return measure_bytes(c.backend, c.update); },
                            &before_update<&Backend::measure>};
constexpr StepPass kUpdate{"update", &move_update,
                           [](const StepCalls& c) { return workspace_bytes(c.backend, c.update); },
                           &update};
constexpr StepPass kLimitRows{"limit_rows", &move_rows, kNoWorkspace, &limit_rows};
constexpr StepPass kWatchAfter{"watch_after", &move_after, &watch_bytes<&StepCalls::watch_after>,
                               &watch<&StepCalls::watch_after, &Backend::watch_after>};

}  // namespace

StepPasses passes_of(const StepNeeds& needs) {
  const struct {
    bool wanted;
    const StepPass* pass;
  } all[StepPasses::kMost] = {
      {needs.global_norm, &kGlobalNorm}, {needs.decision, &kDecide},  {needs.watch, &kWatchBefore},
      {needs.factors, &kFactor},         {needs.norms, &kMeasure},    {needs.update, &kUpdate},
      {needs.limit, &kLimitRows},        {needs.watch, &kWatchAfter},
  };
  StepPasses passes;
  for (const auto& each : all)
    if (each.wanted) passes.at[passes.count++] = each.pass;
  return passes;
}

}  // namespace onepass
