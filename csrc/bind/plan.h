// Plan: an optimizer step over a list of parameters, as one call. Its parts: arrays
// (plan_arrays.h), step counts and scalars (plan_counts.h), hyper-parameters (plan_rows.h), passes
// (core/passes.h), diagnostics (plan_watch.h) and the Python type (plan_type.cpp).
#pragma once
#include <atomic>
#include <string>
#include <vector>

#include "bind/host_memory.h"
#include "bind/plan_arrays.h"
#include "bind/plan_counts.h"
#include "bind/plan_memory.h"
#include "bind/plan_options.h"
#include "bind/plan_rows.h"
#include "bind/plan_watch.h"
#include "core/passes.h"

namespace onepass::bind {

class Plan {
 public:
  // `steps`: how many each parameter has taken, if the caller counts; None: the plan counts.
  // `stages`: see PlanArrays. `owner`: whom messages name; empty: the kernel.
  Plan(const std::string& kernel, const py::object& params, const py::object& states,
       const py::object& groups, const py::object& steps, const py::object& stages,
       const std::string& owner);

  // Each of these refuses while another thread is in one of them.
  py::list steps();
  void set_steps(const py::object& steps);
  void write_steps(const py::object& to);
  py::dict scalars();
  void set_scalars(const py::object& scalars);
  bool watches();
  void watch(bool on);
  py::object watched();
  void set_stages(const py::object& groups, const py::object& rates, const py::object& seed);
  py::object step(const Arguments& given);
  // Whether a graph that was captured holds a step of this plan; and gives its replays the
  // hyper-parameters of now.
  bool captured() const { return captured_; }
  void renew(const py::object& hyper);
  // The passes of a step over these parameters and the bytes that each moves: [(name, bytes), …].
  py::list traffic(const py::object& takes, const StepOptions& options) const;

 private:
  StepPasses passes_for(const StepOptions& options) const;
  GlobalNorm norm_call(const StepOptions& options);
  Elementwise update_call(const StepOptions& options);
  StepCalls calls_for(const Backend& backend, const StepOptions& options);
  py::object step_on_cpu(const Items& grads, const StepOptions& options, Staging* staging);
  py::object step_on_device(const Items& grads, const StepOptions& options);

  const RuleInfo& rule_;
  const std::string owner_;
  const char* op_;
  PlanArrays arrays_;
  PlanCounts counts_;
  PlanRows rows_;
  std::vector<double> norms_;  // of each tensor, between two passes on the CPU
  HostMemory workspace_;       // likewise
  HostMemory factored_;        // likewise
  PlanWatch watch_;
  PlanMemory memory_;  // of the passes on a device
  bool captured_ = false;
  std::atomic<bool> busy_{false};
};

}  // namespace onepass::bind
