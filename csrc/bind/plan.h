// Plan: an optimizer step over a list of parameters as one call. plan_arrays.h has its arrays,
// plan_counts.h the numbers it keeps for each parameter, plan_watch.h what a step did to them; here
// are the hyper-parameters and the passes of a step.
#pragma once
#include <atomic>
#include <string>
#include <vector>

#include "bind/plan_arrays.h"
#include "bind/plan_counts.h"
#include "bind/plan_watch.h"

namespace onepass::bind {

struct StepOptions {
  double unscale = 1, max_value = GradientRider::kNoLimit, max_norm = 0;
  bool clip_norm = false, check_nonfinite = false, zero_grad = false, maximize = false;
  bool zero_skipped = true;
  bool measures() const { return clip_norm || check_nonfinite; }
};

class Plan {
 public:
  // `steps`: how many each parameter has taken, if the caller counts; None: the plan counts.
  // `stages`: see PlanArrays.
  Plan(const std::string& kernel, const py::object& params, const py::object& states,
       const py::object& groups, const py::object& steps, const py::object& stages);

  PlanCounts& counts() { return counts_; }
  PlanWatch& watch() { return watch_; }
  void set_steps(const py::object& steps);
  void set_scalars(const py::object& scalars);
  // What the stages of each group do: (noise, cautious, l1, average gain,
  // stochastic rounding, norm of rows, dither).
  void set_stages(const py::object& groups, const py::object& seed);
  py::object step(const Arguments& given);

 private:
  // Parameters that share a row of hyper-parameters: of one group, at one step, with equal scalars.
  struct HyperSet {
    int64_t group, step;
    const double* scalars;
  };

  void read_groups(const py::object& groups);
  StepOptions read_options(const Arguments& given) const;
  void read_hyper(PyObject* hyper);
  void assign_hyper_sets();
  double* row(size_t set) { return hyper_.data() + set * row_size(); }
  void count();
  size_t row_size() const { return rule_.row_size() + (stages_.active ? kStageValues : 0); }
  void append_stages(const HyperSet& set);

  Norm norm_call(const StepOptions& options);
  Elementwise update_call(const StepOptions& options);
  py::object step_on_cpu(const Items& grads, const StepOptions& options, Staging* staging);
  py::object step_on_device(const Items& grads, const StepOptions& options);

  const RuleInfo& rule_;
  const char* op_;
  PlanArrays arrays_;
  PlanCounts counts_;
  std::vector<int64_t> groups_;  // of each parameter
  int64_t group_count_ = 0;
  size_t rate_ = 0;                  // where a row has the learning rate; its end: nowhere
  std::vector<double> group_hyper_;  // one row per group, without the step
  StepStages stages_;
  bool draws_ = false;                // a stage takes random bits
  std::vector<double> group_stages_;  // one row per group, without the step
  std::vector<HyperSet> hyper_sets_;
  std::vector<double> hyper_;  // one row per set, as the functor's constructor takes it
  std::vector<double> norms_;  // of each tensor, between two passes on the CPU
  HostMemory workspace_;       // likewise
  PlanWatch watch_;
  std::atomic<bool> busy_{false};
};

}  // namespace onepass::bind
