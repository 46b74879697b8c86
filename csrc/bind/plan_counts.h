// The numbers that a plan keeps for each parameter: its step count, and its scalars if the rule has
// some (core/rule.h). They live on the host, or, where only the device knows whether it skipped a
// step, on that CUDA device, in memory of the parameters' library.
#pragma once
#include <vector>

#include "bind/fast.h"
#include "bind/kernel_info.h"
#include "bind/scalar.h"
#include "bind/target.h"

namespace onepass::bind {

class PlanCounts {
 public:
  // No steps yet.
  PlanCounts(const RuleInfo& rule, const char* op, size_t parameters);
  // `numbers`: how many of Elementwise::numbers there may be.
  void move_to_device(const Target& target, size_t numbers);

  // ---- for Python; both wait for the device

  py::list steps();
  void set_steps(const py::object& steps);
  // Into a buffer with a float32 for each parameter.
  void write_steps(const py::object& to);
  py::dict scalars();
  void set_scalars(const py::object& scalars);

  // ---- for a step on the host

  int64_t step(size_t parameter) const { return steps_[parameter]; }
  const double* scalars(size_t parameter) const {
    return scalars_.data() + parameter * rule_.scalars.size();
  }
  // How often others than a step have set the steps or the scalars.
  uint64_t edits() const { return edits_; }
  // The parameter has taken the step of this row of hyper-parameters.
  void advance(size_t parameter, const double* row);

  // ---- for a step on the device

  bool on_device() const { return bool(memory_); }
  // Puts the memory into a call on this target, which the counts follow.
  void ride(const Target& target, Elementwise* update, GlobalNorm* norm);
  // For a call that a graph will replay.
  void give_numbers(Elementwise* update) const;
  // Where they are to be written.
  HostBytes numbers_for(const std::vector<double>& numbers) const;

 private:
  void read();
  void write() const;
  int64_t* tickets() const;

  const RuleInfo& rule_;
  const char* op_;
  uint64_t edits_ = 0;
  // The counts and scalars on the host; if a device counts, an outdated copy.
  std::vector<int64_t> steps_;
  std::vector<double> scalars_;  // parameter by parameter
  // int64: a count for each parameter, the bits of the scalars, then two tickets of 32 bits, then
  // Elementwise::numbers.
  py::object memory_;
  Target target_{};
};

}  // namespace onepass::bind
