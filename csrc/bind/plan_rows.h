// The hyper-parameters of a step, as its kernels take them: a row for the parameters that share
// one, with the step and the scalars that these carry, and what its stages do at the end.
#pragma once
#include <vector>

#include "bind/plan_arrays.h"
#include "bind/plan_counts.h"

namespace onepass::bind {

class PlanRows {
 public:
  // `groups`: the number of each parameter's group.
  PlanRows(const RuleInfo& rule, const py::object& groups, const PlanArrays& arrays);

  // What the stages of each group do: (noise, cautious, l1, average gain,
  // stochastic rounding, norm of rows, dither).
  void set_stages(const py::object& groups, const py::object& seed);
  const StepStages& stages() const { return stages_; }

  // ---- a step

  // A row of each group, without the step.
  void read(PyObject* hyper);
  // Gives every tensor its row. Where the device counts, a row serves a whole group, and the device
  // puts the step and the scalars in.
  void assign(PlanArrays* arrays, const PlanCounts& counter);
  void describe(Elementwise* call) const;
  // After it: every parameter that took part has counted it.
  void count(const PlanArrays& arrays, PlanCounts* counter);

 private:
  // Parameters that share a row: of one group, at one step, with equal scalars.
  struct HyperSet {
    int64_t group, step;
    const double* scalars;
  };

  void read_groups(const py::object& groups, const PlanArrays& arrays);
  double* row(size_t set) { return hyper_.data() + set * row_size(); }
  size_t row_size() const { return rule_.row_size() + (stages_.active ? kStageValues : 0); }
  void append_stages(const HyperSet& set);

  const RuleInfo& rule_;
  const char* op_;
  std::vector<int64_t> groups_;  // of each parameter
  int64_t group_count_ = 0;
  size_t rate_ = 0;                  // where a row has the learning rate; its end: nowhere
  std::vector<double> group_hyper_;  // one row per group, without the step
  StepStages stages_;
  bool draws_ = false;                // a stage takes random bits
  std::vector<double> group_stages_;  // one row per group, without the step
  std::vector<HyperSet> hyper_sets_;
  std::vector<double> hyper_;  // one row per set, as the functor's constructor takes it
};

}  // namespace onepass::bind
