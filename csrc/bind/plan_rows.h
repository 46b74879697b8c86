// The hyper-parameters of a step in the form that kernels read: one row for all parameters with the
// same values. It also holds the step, the scalars and, at the end, the values of the stages.
#pragma once
#include <vector>

#include "bind/plan_arrays.h"
#include "bind/plan_counts.h"

namespace onepass::bind {

class PlanRows {
 public:
  // `groups`: the number of each parameter's group.
  PlanRows(const RuleInfo& rule, const char* op, const py::object& groups,
           const PlanArrays& arrays);

  // The settings of the stages of each group: a value for each StageValue but the step. rates: of
  // each group, by which l1 is multiplied where the kernel does not have the rate in its row.
  void set_stages(const py::object& groups, const py::object& rates, const py::object& seed);
  const StepStages& stages() const { return stages_; }
  // max_weight_norm of a parameter's group.
  double max_row_norm(size_t i) const {
    return stages_.active ? group_stages_[size_t(groups_[i]) * kStageStep + kMaxRowNorm] : 0;
  }
  // Whether a stage asks for the C-order index of elements.
  bool need_order() const { return draws_ || stages_.has_limit; }

  // ---- a step

  // A row of each group, without the step: a list of rows, or GroupRows.
  void read(PyObject* hyper);
  // Gives every tensor its row. Where the device counts, a row serves a whole group, and the device
  // puts the step and the scalars in.
  void assign(PlanArrays* arrays, const PlanCounts& counter);
  void describe(Elementwise* call) const;
  // Elementwise::numbers for the values that were read last, and how many of them there are.
  std::vector<double> numbers();
  size_t all_numbers() const { return 1 + size_t(group_count_) * row_size(); }
  // After it: every parameter that took part has counted it.
  void count(const PlanArrays& arrays, PlanCounts* counter);

 private:
  // A row of the parameters of one group, at one step, with equal scalars. They stay together,
  // since a step advances all of them or none.
  struct Shared {
    int64_t group;
    size_t parameter;  // one of them
  };

  void read_groups(const py::object& groups, const PlanArrays& arrays);
  void check_width(Py_ssize_t group, Py_ssize_t count) const;
  void share(PlanArrays* arrays, const PlanCounts& counter);
  void fill();
  void fill_row(size_t group, double* to) const;
  void count_in(const PlanCounts& counter);
  bool host_counts(const PlanCounts& counter) const {
    return (rule_.counts_steps || draws_) && !counter.on_device();
  }
  size_t given() const { return rule_.hyper.size() - rule_.counts_steps; }
  double* row(size_t at) { return hyper_.data() + at * row_size(); }
  size_t row_size() const { return rule_.row_size() + (stages_.active ? kStageValues : 0); }

  const RuleInfo& rule_;
  const char* op_;
  std::vector<int64_t> groups_;  // of each parameter
  int64_t group_count_ = 0;
  size_t rate_ = 0;                  // where a row has the learning rate; its end: nowhere
  std::vector<double> group_hyper_;  // one row per group, without the step
  StepStages stages_;
  bool draws_ = false;                // a stage takes random bits
  std::vector<double> group_stages_;  // one row per group, without the step
  std::vector<double> group_rates_;   // where `rate_` is nowhere
  uint64_t read_ = 0;                 // GroupRows::version of group_hyper_; 0: of no GroupRows
  bool filled_ = false;               // rows have the values of their groups
  // The state for which the rows were shared: PlanArrays::collected, PlanCounts::edits.
  bool shared_known_ = false;
  uint64_t collected_ = 0, edits_ = 0;
  std::vector<Shared> shared_;
  std::vector<double> hyper_;  // a row for each, as the functor's constructor takes it
};

}  // namespace onepass::bind
