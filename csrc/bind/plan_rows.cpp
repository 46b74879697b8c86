#include "bind/plan_rows.h"

#include <algorithm>
#include <cstring>

#include "bind/group_rows.h"

namespace onepass::bind {

PlanRows::PlanRows(const RuleInfo& rule, const char* op, const py::object& groups,
                   const PlanArrays& arrays)
    : rule_(rule), op_(op) {
  stages_.active = arrays.has_stages();
  stages_.first = int32_t(arrays.kernel().operands.size());
  while (rate_ < rule_.hyper.size() && std::strcmp(rule_.hyper[rate_], "lr") != 0) ++rate_;
  read_groups(groups, arrays);
  group_stages_.assign(size_t(group_count_) * kStageStep, 0);
  group_rates_.assign(size_t(group_count_), 0);
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

void PlanRows::check_width(Py_ssize_t group, Py_ssize_t count) const {
  if (size_t(count) != given())
    value_error(op_, "hyper[" + std::to_string(group) + "] has " + std::to_string(count) +
                         " values, expected " + std::to_string(given()));
}

void PlanRows::read(PyObject* hyper) {
  const GroupRows* rows = GroupRows::of(hyper);
  if (rows && rows->version() == read_) return;
  read_ = 0;
  filled_ = false;
  const auto check_count = [&](Py_ssize_t count) {
    if (count < group_count_)
      value_error(op_, "'hyper' has " + std::to_string(count) + " groups, expected " +
                           std::to_string(group_count_));
  };
  if (rows) {
    check_count(rows->row_count());
    if (group_count_ > 0) check_width(0, rows->width());
    const std::vector<double>& values = rows->values();
    group_hyper_.assign(values.begin(), values.begin() + group_count_ * Py_ssize_t(given()));
    read_ = rows->version();
    return;
  }
  const Items groups(op_, "hyper", hyper);
  check_count(groups.count());
  group_hyper_.clear();
  for (Py_ssize_t g = 0; g < group_count_; ++g) {
    const Items row(op_, "hyper", groups[g]);
    check_width(g, row.count());
    for (Py_ssize_t h = 0; h < row.count(); ++h)
      group_hyper_.push_back(real(op_, rule_.hyper[size_t(h)], row[h]));
  }
}

void PlanRows::assign(PlanArrays* arrays, const PlanCounts& counter) {
  if (!shared_known_ || collected_ != arrays->collected() || edits_ != counter.edits())
    share(arrays, counter);
  if (!filled_) fill();
  count_in(counter);
}

// Says which parameters share a row.
void PlanRows::share(PlanArrays* arrays, const PlanCounts& counter) {
  const bool counts = host_counts(counter);
  const size_t scalars = rule_.scalars.size();
  shared_.clear();
  // A row for each group, whether or not it has tensors: a graph finds it at the same place.
  if (!counts && counter.on_device())
    for (int64_t group = 0; group < group_count_; ++group) shared_.push_back({group, 0});
  size_t at = 0;
  for (size_t t = 0; t < arrays->tensors().size(); ++t) {
    const size_t i = arrays->order()[t];
    if (!counts && counter.on_device()) {
      arrays->tensors()[t].hyper_set = int32_t(groups_[i]);
      continue;
    }
    const auto is_wanted = [&](const Shared& s) {
      if (s.group != groups_[i]) return false;
      if (!counts) return true;
      return counter.step(s.parameter) == counter.step(i) &&
             (scalars == 0 || std::memcmp(counter.scalars(i), counter.scalars(s.parameter),
                                          scalars * sizeof(double)) == 0);
    };
    if (at >= shared_.size() || !is_wanted(shared_[at])) {
      // Among the last few: parameters that each have a row of their own would be compared with
      // all.
      constexpr size_t kLooksBack = 16;
      const size_t rows = shared_.size(), first = rows > kLooksBack ? rows - kLooksBack : 0;
      at = size_t(std::find_if(shared_.begin() + std::ptrdiff_t(first), shared_.end(), is_wanted) -
                  shared_.begin());
      if (at == shared_.size()) shared_.push_back({groups_[i], i});
    }
    arrays->tensors()[t].hyper_set = int32_t(at);
  }
  hyper_.resize(shared_.size() * row_size());
  filled_ = false;
  shared_known_ = true;
  collected_ = arrays->collected();
  edits_ = counter.edits();
}

// The values of the groups: a row is [given…, the step, scalars…, stages…, the step again].
void PlanRows::fill() {
  for (size_t at = 0; at < shared_.size(); ++at) fill_row(size_t(shared_[at].group), row(at));
  filled_ = true;
}
void PlanRows::fill_row(size_t group, double* to) const {
  const double* values = group_hyper_.data() + group * given();
  std::copy(values, values + given(), to);
  if (!stages_.active) return;
  double* stages = to + rule_.row_size();
  const double* own = group_stages_.data() + group * kStageStep;
  std::copy(own, own + kStageStep, stages);
  stages[kThreshold] *= rate_ < rule_.hyper.size() ? values[rate_] : group_rates_[group];
}

std::vector<double> PlanRows::numbers() {
  std::vector<double> all(all_numbers(), 0);
  all[0] = 1;
  for (size_t group = 0; group < size_t(group_count_); ++group)
    fill_row(group, all.data() + 1 + group * row_size());
  return all;
}

// The steps and scalars.
void PlanRows::count_in(const PlanCounts& counter) {
  const bool counts = host_counts(counter);
  const size_t scalars = rule_.scalars.size();
  for (size_t at = 0; at < shared_.size(); ++at) {
    double* to = row(at);
    const size_t parameter = shared_[at].parameter;
    const double step = counts ? double(counter.step(parameter) + 1) : 0;
    if (rule_.counts_steps) to[given()] = step;
    if (stages_.active) to[row_size() - 1] = step;
    if (scalars == 0) continue;
    const double* own = counter.scalars(parameter);
    std::copy(own, own + scalars, to + rule_.hyper.size());
    if (counts && rule_.advances_first) rule_.advance(to);
  }
}

void PlanRows::describe(Elementwise* call) const {
  call->hyper = hyper_.data();
  call->hyper_rows = int64_t(shared_.size());
  call->hyper_size = int64_t(row_size());
  call->stages = stages_;
}

void PlanRows::count(const PlanArrays& arrays, PlanCounts* counter) {
  if (!rule_.advances_first)
    for (size_t at = 0; at < shared_.size(); ++at) rule_.advance(row(at));
  const std::vector<size_t>& order = arrays.order();
  for (size_t t = 0; t < order.size(); ++t)
    counter->advance(order[t], row(size_t(arrays.tensors()[t].hyper_set)));
}

void PlanRows::set_stages(const py::object& groups, const py::object& rates,
                          const py::object& seed) {
  if (!stages_.active) value_error(op_, "the plan was made without stages");
  const Items rows(op_, "stages", groups.ptr());
  if (rows.count() < group_count_) value_error(op_, "'stages' needs a row for each group");
  const Items all_rates(op_, "rates", rates.ptr());
  if (all_rates.count() < group_count_) value_error(op_, "'rates' needs a rate for each group");
  std::vector<double> values, each_rate;
  bool draws = false, limits = false;
  for (Py_ssize_t g = 0; g < group_count_; ++g) {
    const Items row(op_, "stages", rows[g]);
    if (row.count() != kStageStep)
      value_error(op_, "stages[" + std::to_string(g) + "] has " + std::to_string(row.count()) +
                           " values, expected " + std::to_string(kStageStep));
    for (Py_ssize_t v = 0; v < kStageStep; ++v) values.push_back(real(op_, "stages", row[v]));
    each_rate.push_back(real(op_, "rates", all_rates[g]));
    const double* last = values.data() + values.size() - kStageStep;
    draws = draws || last[kNoise] != 0 || last[kStochastic] != 0 || last[kDither] != 0;
    limits = limits || last[kMaxRowNorm] != 0;
  }
  stages_.seed = unsigned_64(op_, "seed", seed.ptr());
  draws_ = draws;
  stages_.has_limit = limits;
  group_stages_ = values;
  group_rates_ = each_rate;
  filled_ = shared_known_ = false;
}

}  // namespace onepass::bind
