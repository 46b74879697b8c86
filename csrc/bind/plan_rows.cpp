#include "bind/plan_rows.h"

#include <cstring>

namespace onepass::bind {

PlanRows::PlanRows(const RuleInfo& rule, const py::object& groups, const PlanArrays& arrays)
    : rule_(rule), op_(rule.name) {
  stages_.active = arrays.has_stages();
  stages_.first = int32_t(arrays.kernel().operands.size());
  while (rate_ < rule_.hyper.size() && std::strcmp(rule_.hyper[rate_], "lr") != 0) ++rate_;
  read_groups(groups, arrays);
  group_stages_.assign(size_t(group_count_) * kStageStep, 0);
}

void PlanRows::read_groups(const py::object& groups, const PlanArrays& arrays) {
  const Items items(op_, "groups", groups.ptr());
  arrays.check_count("groups", size_t(items.count()));
  for (Py_ssize_t i = 0; i < items.count(); ++i) {
    groups_.push_back(signed_64(op_, "groups", items[i]));
    if (groups_.back() < 0 || groups_.back() >= int64_t(arrays.count()))
      value_error(op_, "groups[" + std::to_string(i) + "] is " + std::to_string(groups_.back()) +
                           ", expected the number of a group");
    group_count_ = std::max(group_count_, groups_.back() + 1);
  }
}

void PlanRows::read(PyObject* hyper) {
  const Items groups(op_, "hyper", hyper);
  if (groups.count() < group_count_)
    value_error(op_, "'hyper' has " + std::to_string(groups.count()) + " groups, expected " +
                         std::to_string(group_count_));
  const auto wanted = Py_ssize_t(rule_.hyper.size() - rule_.counts_steps);
  group_hyper_.clear();
  for (Py_ssize_t g = 0; g < group_count_; ++g) {
    const Items row(op_, "hyper", groups[g]);
    if (row.count() != wanted)
      value_error(op_, "hyper[" + std::to_string(g) + "] has " + std::to_string(row.count()) +
                           " values, expected " + std::to_string(wanted));
    for (Py_ssize_t h = 0; h < wanted; ++h)
      group_hyper_.push_back(real(op_, rule_.hyper[size_t(h)], row[h]));
  }
}

void PlanRows::assign(PlanArrays* arrays, const PlanCounts& counter) {
  const bool counts = rule_.counts_steps;
  const bool known_here = (counts || draws_) && !counter.on_device();
  const size_t given = rule_.hyper.size() - counts, scalars = rule_.scalars.size();
  hyper_sets_.clear();
  hyper_.clear();
  size_t at = 0;
  for (size_t t = 0; t < arrays->tensors().size(); ++t) {
    const size_t i = arrays->order()[t];
    const HyperSet wanted{groups_[i], known_here ? counter.step(i) + 1 : 0, counter.scalars(i)};
    auto is_wanted = [&](const HyperSet& s) {
      return s.group == wanted.group && s.step == wanted.step &&
             (!known_here || scalars == 0 ||
              std::memcmp(s.scalars, wanted.scalars, scalars * sizeof(double)) == 0);
    };
    if (at >= hyper_sets_.size() || !is_wanted(hyper_sets_[at])) {
      // Among the last few: parameters that each have a row of their own would be compared with
      // all.
      constexpr size_t kLooksBack = 16;
      const size_t sets = hyper_sets_.size(), first = sets > kLooksBack ? sets - kLooksBack : 0;
      at = size_t(
          std::find_if(hyper_sets_.begin() + std::ptrdiff_t(first), hyper_sets_.end(), is_wanted) -
          hyper_sets_.begin());
      if (at == hyper_sets_.size()) {
        hyper_sets_.push_back(wanted);
        const double* values = group_hyper_.data() + size_t(wanted.group) * given;
        hyper_.insert(hyper_.end(), values, values + given);
        if (counts) hyper_.push_back(double(wanted.step));
        hyper_.insert(hyper_.end(), wanted.scalars, wanted.scalars + scalars);
        if (known_here && rule_.advances_first) rule_.advance(row(at));
        if (stages_.active) append_stages(wanted);
      }
    }
    arrays->tensors()[t].hyper_set = int32_t(at);
  }
}

void PlanRows::describe(Elementwise* call) const {
  call->hyper = hyper_.data();
  call->hyper_rows = int64_t(hyper_sets_.size());
  call->hyper_size = int64_t(row_size());
  call->stages = stages_;
}

void PlanRows::count(const PlanArrays& arrays, PlanCounts* counter) {
  if (!rule_.advances_first)
    for (size_t set = 0; set < hyper_sets_.size(); ++set) rule_.advance(row(set));
  const std::vector<size_t>& order = arrays.order();
  for (size_t t = 0; t < order.size(); ++t)
    counter->advance(order[t], row(size_t(arrays.tensors()[t].hyper_set)));
}

// The end of the last row.
void PlanRows::append_stages(const HyperSet& set) {
  const double* values = group_stages_.data() + size_t(set.group) * kStageStep;
  const double* given =
      group_hyper_.data() + size_t(set.group) * (rule_.hyper.size() - rule_.counts_steps);
  hyper_.insert(hyper_.end(), values, values + kStageStep);
  if (rate_ < rule_.hyper.size()) hyper_[hyper_.size() - kStageStep + kThreshold] *= given[rate_];
  hyper_.push_back(double(set.step));
}

void PlanRows::set_stages(const py::object& groups, const py::object& seed) {
  if (!stages_.active) value_error(op_, "the plan was made without stages");
  const Items rows(op_, "stages", groups.ptr());
  if (rows.count() < group_count_) value_error(op_, "'stages' needs a row for each group");
  std::vector<double> values;
  bool draws = false, limits = false;
  for (Py_ssize_t g = 0; g < group_count_; ++g) {
    const Items row(op_, "stages", rows[g]);
    if (row.count() != kStageStep)
      value_error(op_, "stages[" + std::to_string(g) + "] has " + std::to_string(row.count()) +
                           " values, expected " + std::to_string(kStageStep));
    for (Py_ssize_t v = 0; v < kStageStep; ++v) values.push_back(real(op_, "stages", row[v]));
    const double* last = values.data() + values.size() - kStageStep;
    draws = draws || last[kNoise] != 0 || last[kStochastic] != 0 || last[kDither] != 0;
    limits = limits || last[kMaxRowNorm] != 0;
  }
  stages_.seed = unsigned_64(op_, "seed", seed.ptr());
  draws_ = draws;
  stages_.has_limit = limits;
  stages_.in_order = draws || limits;
  group_stages_ = values;
}

}  // namespace onepass::bind
