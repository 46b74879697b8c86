// The steps of a plan, and its Python type.
#include "bind/plan.h"

#include <cmath>
#include <cstring>

#include "cpu/dispatch.h"
#include "kernels/gradient.h"

namespace onepass::bind {
namespace {

const RuleInfo& rule_named(const std::string& name) {
  const RuleInfo* rule = find(rules(), name);
  if (!rule) value_error("Plan", "kernel is '" + name + "', expected one of " + names_of(rules()));
  return *rule;
}

// A step lets other threads run; none of them may touch the same plan.
struct Busy {
  std::atomic<bool>& flag;
  Busy(const char* op, std::atomic<bool>& f) : flag(f) {
    if (flag.exchange(true, std::memory_order_acquire))
      throw std::runtime_error(std::string(op) +
                               ": this optimizer is stepping in another thread; let one thread "
                               "step it, or give each thread an optimizer of its own");
  }
  ~Busy() { flag.store(false, std::memory_order_release); }
};

// Gradients are multiplied by the factor in the type that they are computed in.
void check_unscale(const char* op, double unscale, const std::vector<Tensor>& tensors) {
  const auto refuse = [&](const char* type, const char* range) {
    value_error(op, "'grad_scale' is " + repr(py::float_(1 / unscale).ptr()) + ", expected " +
                        range + " for gradients that are computed in " + type);
  };
  if (!std::isnormal(unscale)) refuse("float64", "1e-307 <= grad_scale <= 1e307");
  if (std::isnormal(float(unscale))) return;
  for (const Tensor& tensor : tensors)
    if (tensor.computing == DType::f32) refuse("float32", "1e-38 <= grad_scale <= 8e37");
}

py::object outcome(PyObject* skipped, const py::object& norm, const py::object& nonfinite) {
  return py::reinterpret_steal<py::object>(PyTuple_Pack(3, skipped, norm.ptr(), nonfinite.ptr()));
}

}  // namespace

Plan::Plan(const std::string& kernel, const py::object& params, const py::object& states,
           const py::object& groups, const py::object& steps, const py::object& stages)
    : rule_(rule_named(kernel)),
      op_(rule_.name),
      arrays_(rule_, params, states, stages),
      counts_(rule_, arrays_.count()) {
  stages_.active = arrays_.has_stages();
  stages_.first = int32_t(arrays_.kernel().operands.size());
  while (rate_ < rule_.hyper.size() && std::strcmp(rule_.hyper[rate_], "lr") != 0) ++rate_;
  read_groups(groups);
  group_stages_.assign(size_t(group_count_) * kStageStep, 0);
  if (!steps.is_none()) {
    counts_.set_steps(steps);
  } else if (arrays_.on_device()) {
    counts_.move_to_device(arrays_.target(nullptr));
  }
}

void Plan::read_groups(const py::object& groups) {
  const Items items(op_, "groups", groups.ptr());
  arrays_.check_count("groups", size_t(items.count()));
  for (Py_ssize_t i = 0; i < items.count(); ++i) {
    groups_.push_back(signed_64(op_, "groups", items[i]));
    if (groups_.back() < 0 || groups_.back() >= int64_t(arrays_.count()))
      value_error(op_, "groups[" + std::to_string(i) + "] is " + std::to_string(groups_.back()) +
                           ", expected the number of a group");
    group_count_ = std::max(group_count_, groups_.back() + 1);
  }
}

StepOptions Plan::read_options(const Arguments& given) const {
  StepOptions options;
  options.unscale = real(op_, "unscale", given[2]);
  if (given[3] != Py_None) options.max_value = real(op_, "max_value", given[3]);
  options.clip_norm = given[4] != Py_None;
  if (options.clip_norm) options.max_norm = real(op_, "max_norm", given[4]);
  options.check_nonfinite = boolean(op_, "check_nonfinite", given[5]);
  options.zero_grad = boolean(op_, "zero_grad", given[6]);
  options.maximize = boolean(op_, "maximize", given[7]);
  options.zero_skipped = boolean(op_, "zero_skipped", given[8]);
  return options;
}

void Plan::read_hyper(PyObject* hyper) {
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

// Gives every tensor its row of hyper-parameters. Where the device counts, a row serves a whole
// group, and the device puts the step and the scalars in.
void Plan::assign_hyper_sets() {
  const bool counts = rule_.counts_steps;
  const bool known_here = (counts || draws_) && !counts_.on_device();
  const size_t given = rule_.hyper.size() - counts, scalars = rule_.scalars.size();
  hyper_sets_.clear();
  hyper_.clear();
  size_t at = 0;
  for (size_t t = 0; t < arrays_.tensors().size(); ++t) {
    const size_t i = arrays_.order()[t];
    const HyperSet wanted{groups_[i], known_here ? counts_.step(i) + 1 : 0, counts_.scalars(i)};
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
    arrays_.tensors()[t].hyper_set = int32_t(at);
  }
}

// After a step: every parameter that took part has counted it.
void Plan::count() {
  if (!rule_.advances_first)
    for (size_t set = 0; set < hyper_sets_.size(); ++set) rule_.advance(row(set));
  const std::vector<size_t>& order = arrays_.order();
  for (size_t t = 0; t < order.size(); ++t)
    counts_.advance(order[t], row(size_t(arrays_.tensors()[t].hyper_set)));
}

// The end of the last row.
void Plan::append_stages(const HyperSet& set) {
  const double* values = group_stages_.data() + size_t(set.group) * kStageStep;
  const double* given =
      group_hyper_.data() + size_t(set.group) * (rule_.hyper.size() - rule_.counts_steps);
  hyper_.insert(hyper_.end(), values, values + kStageStep);
  if (rate_ < rule_.hyper.size()) hyper_[hyper_.size() - kStageStep + kThreshold] *= given[rate_];
  hyper_.push_back(double(set.step));
}

void Plan::set_stages(const py::object& groups, const py::object& seed) {
  const Busy busy(op_, busy_);
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
  arrays_.keep_order(stages_.in_order);
}

void Plan::set_steps(const py::object& steps) {
  const Busy busy(op_, busy_);
  counts_.set_steps(steps);
}
void Plan::set_scalars(const py::object& scalars) {
  const Busy busy(op_, busy_);
  counts_.set_scalars(scalars);
}

py::object Plan::step(const Arguments& given) {
  given.expect(op_, 9);
  const Busy busy(op_, busy_);
  const Items grads(op_, "grads", given[0]);
  const StepOptions options = read_options(given);
  read_hyper(given[1]);
  Staging staging;
  arrays_.refresh(grads, &staging, options.zero_grad);
  assign_hyper_sets();
  if (options.unscale != 1) check_unscale(op_, options.unscale, arrays_.tensors());
  return arrays_.on_device() ? step_on_device(grads, options)
                             : step_on_cpu(grads, options, &staging);
}

// ---- the passes of a step

namespace {

// The calls of a step, and what one pass leaves for the next.
struct Calls {
  const Backend& backend;
  const StepOptions& options;
  const KernelInfo& kernel;
  const PlanWatch& watch;
  Norm norm{};
  Elementwise update{};
  void* workspace = nullptr;      // of passes that measure tensors
  NormResult measured{0, 0, -1};  // on the CPU; a device keeps its own
  bool skipped = false;           // likewise
};

// A walk over the tensors of a step.
struct Pass {
  int64_t (*workspace)(const Calls&);
  void (*run)(Calls*);
};

void measure(Calls* calls) { calls->backend.norm(calls->norm); }

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
// Leaves the gradients for the update, which is the one to zero them.
void measure_tensors(Calls* calls) {
  if (calls->skipped) return;
  Elementwise call = calls->update;
  call.rider.zero_grad = false;
  call.workspace = calls->workspace;
  calls->backend.measure[calls->kernel.index][calls->kernel.variant](call);
}
void watch_before(Calls* calls) {
  Elementwise call = calls->watch.before();
  call.workspace = calls->workspace;
  calls->backend.watch_before(call);
}
void watch_after(Calls* calls) {
  Elementwise call = calls->watch.after();
  call.workspace = calls->workspace;
  calls->backend.watch_after(call);
}
void update(Calls* calls) {
  if (calls->skipped) return;
  calls->backend.update[calls->kernel.index][calls->kernel.variant](calls->update);
}

void limit_rows(Calls* calls) {
  if (calls->skipped) return;
  calls->backend.limit_rows(calls->update);
}

constexpr auto kNoWorkspace = [](const Calls&) -> int64_t { return 0; };
constexpr Pass kMeasure{[](const Calls& c) { return workspace_bytes(c.backend, c.norm); },
                        &measure};
constexpr Pass kDecide{kNoWorkspace, &decide};
constexpr Pass kUpdate{[](const Calls& c) { return workspace_bytes(c.backend, c.update); },
                       &update};
constexpr Pass kMeasureTensors{[](const Calls& c) { return measure_bytes(c.backend, c.update); },
                               &measure_tensors};
constexpr Pass kWatchBefore{
    [](const Calls& c) { return measure_bytes(c.backend, c.watch.before()); }, &watch_before};
constexpr Pass kWatchAfter{[](const Calls& c) { return measure_bytes(c.backend, c.watch.after()); },
                           &watch_after};

constexpr Pass kLimitRows{kNoWorkspace, &limit_rows};

// In order. The decision to skip the step comes before the first pass that writes.
struct Passes {
  static constexpr int kMost = 8;
  const Pass* at[kMost];
  int count = 0;
  Passes(const StepOptions& options, const RuleInfo& rule, const PlanWatch& watch,
         const StepStages& stages) {
    if (options.measures()) {
      at[count++] = &kMeasure;
      at[count++] = &kDecide;
    }
    if (watch.on) at[count++] = &kWatchBefore;
    if (!rule.norms.empty()) at[count++] = &kMeasureTensors;
    at[count++] = &kUpdate;
    if (stages.has_limit) at[count++] = &kLimitRows;
    if (watch.on) at[count++] = &kWatchAfter;
  }
  // Of all passes, one after the other.
  int64_t workspace(const Calls& calls) const {
    int64_t bytes = 0;
    for (const Pass* pass : *this) bytes = std::max(bytes, pass->workspace(calls));
    return bytes;
  }
  const Pass* const* begin() const { return at; }
  const Pass* const* end() const { return at + count; }
};

}  // namespace

Norm Plan::norm_call(const StepOptions& options) {
  Norm call;
  call.tensors = arrays_.tensors().data();
  call.count = int64_t(arrays_.tensors().size());
  call.schedule = arrays_.schedule();
  call.operand = int32_t(kGrad);
  call.unscale = options.unscale;
  call.max_value = options.max_value;
  return call;
}

Elementwise Plan::update_call(const StepOptions& options) {
  Elementwise call;
  call.tensors = arrays_.tensors().data();
  call.count = int64_t(arrays_.tensors().size());
  call.schedule = arrays_.schedule();
  call.hyper = hyper_.data();
  call.hyper_rows = int64_t(hyper_sets_.size());
  call.hyper_size = int64_t(row_size());
  call.norm_count = int64_t(rule_.norms.size());
  call.stages = stages_;
  call.rider.unscale = options.unscale;
  call.rider.max_value = options.max_value;
  call.rider.coefficient = options.maximize ? -1.0 : 1.0;
  call.rider.zero_grad = options.zero_grad;
  return call;
}

py::object Plan::step_on_cpu(const Items& grads, const StepOptions& options, Staging* staging) {
  const int64_t elements = arrays_.elements();
  const Passes passes(options, rule_, watch_, stages_);
  Calls calls{cpu_backend(), options, arrays_.kernel(), watch_};
  if (options.measures()) calls.norm = norm_call(options);
  calls.norm.result = &calls.measured;
  calls.update = update_call(options);
  if (!rule_.norms.empty()) {
    norms_.resize(arrays_.count() * rule_.norms.size());
    calls.update.norms = norms_.data();
  }
  if (watch_.on) watch_.prepare(calls.update, arrays_.count(), nullptr);
  if (!rule_.norms.empty() || watch_.on)
    calls.workspace = workspace_.at_least(passes.workspace(calls));
  if (elements > 0) {
    const ReleaseGil released(elements);
    for (const Pass* pass : passes) pass->run(&calls);
  }
  const NormResult& norm = calls.measured;
  const std::vector<size_t>& order = arrays_.order();
  if (watch_.on) watch_.keep(order, nullptr);
  if (!calls.skipped) {
    staging->store();
    count();
    arrays_.mark_written(grads, options.zero_grad);
  } else if (options.zero_grad && options.zero_skipped) {
    arrays_.zero_grads(grads);
  }
  py::object norm_out = py::none(), index_out = py::none();
  if (options.clip_norm) norm_out = py::float_(norm.norm);
  if (norm.first_nonfinite >= 0) index_out = py::int_(order[size_t(norm.first_nonfinite)]);
  return outcome(calls.skipped ? Py_True : Py_False, norm_out, index_out);
}

// The host waits for nothing: the update reads the norm and the counts on the device, and whoever
// reads the result finds out whether the step was skipped. The result is (None, NormResult as an
// array of its fields, (index of each tensor's parameter, device, stream)).
py::object Plan::step_on_device(const Items& grads, const StepOptions& options) {
  const std::vector<size_t>& order = arrays_.order();
  if (order.empty()) {
    if (watch_.on) watch_.prepare({}, arrays_.count(), nullptr), watch_.keep(order, nullptr);
    return outcome(Py_False, py::none(), py::none());
  }
  const Target where = arrays_.target(&grads);
  const Passes passes(options, rule_, watch_, stages_);
  Calls calls{*where.backend,      options, arrays_.kernel(), watch_, norm_call(options),
              update_call(options)};
  calls.norm.stream = calls.update.stream = where.stream;
  if (counts_.on_device()) counts_.ride(where, &calls.update, &calls.norm);
  py::object result = py::none(), workspace, norms;
  if (!rule_.norms.empty()) {
    norms = lend(where, int64_t(arrays_.count() * rule_.norms.size()), "float64");
    calls.update.norms = static_cast<double*>(pointer_of(norms));
  }
  if (watch_.on) watch_.prepare(calls.update, arrays_.count(), &where);
  const int64_t bytes = passes.workspace(calls);
  if (options.measures()) {
    result = lend(where, sizeof(NormResult) / sizeof(double), "float64");
    calls.norm.result = static_cast<NormResult*>(pointer_of(result));
    GradientRider& rider = calls.update.rider;
    rider.norm = calls.norm.result;
    rider.max_norm = options.clip_norm ? options.max_norm : -1;
    rider.skip_nonfinite = options.check_nonfinite;
    rider.zero_skipped = options.zero_skipped;
  }
  if (bytes > 0) {
    workspace = lend(where, bytes, "uint8");
    calls.norm.workspace = calls.update.workspace = calls.workspace = pointer_of(workspace);
  }
  {
    const Launches launches(where);
    for (const Pass* pass : passes) launches.run(pass->run, &calls, arrays_.elements());
    launches.finish();
  }
  if (watch_.on) watch_.keep(order, &where);
  arrays_.mark_written(grads, options.zero_grad);
  if (!counts_.on_device() && !options.check_nonfinite) count();  // the step is sure to be taken
  if (!options.measures()) return outcome(Py_False, py::none(), py::none());
  py::tuple positions(options.check_nonfinite ? order.size() : 0);
  for (size_t t = 0; t < positions.size(); ++t) positions[t] = order[t];
  return outcome(
      Py_None, result,
      py::make_tuple(positions, where.device, reinterpret_cast<uintptr_t>(where.stream)));
}

namespace {

// pybind11 would hand out uninitialised memory for an object that Plan.__new__ alone has made.
Plan& plan_of(py::handle self) {
  auto held = reinterpret_cast<py::detail::instance*>(self.ptr())->get_value_and_holder();
  if (!held.holder_constructed())
    type_error("Plan", "the object was not initialised; call Plan(…)");
  return *held.value_ptr<Plan>();
}

PyObject* plan_step(PyObject* self, PyObject* const* at, Py_ssize_t count) {
  try {
    return plan_of(self).step({at, count}).release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

PyObject* plan_write_steps(PyObject* self, PyObject* const* at, Py_ssize_t count) {
  try {
    const Arguments given{at, count};
    given.expect("write_steps", 1);
    plan_of(self).counts().write_steps(py::reinterpret_borrow<py::object>(given[0]));
    return py::none().release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

}  // namespace

void define_plan(py::module_& m) {
  const py::handle plain(reinterpret_cast<PyObject*>(&PyType_Type));
  py::class_<Plan> plan(m, "Plan", py::is_final(), py::metaclass(plain));
  plan.def(py::init<const std::string&, const py::object&, const py::object&, const py::object&,
                    const py::object&, const py::object&>(),
           py::arg("kernel"), py::arg("params"), py::arg("states"), py::arg("groups"),
           py::arg("steps") = py::none(), py::arg("stages") = py::none(), py::pos_only())
      .def(
          "set_stages",
          [](const py::object& self, const py::object& groups, const py::object& seed) {
            plan_of(self).set_stages(groups, seed);
          },
          py::arg("groups"), py::arg("seed"), py::pos_only())
      .def_property(
          "steps", [](const py::object& self) { return plan_of(self).counts().steps(); },
          [](const py::object& self, const py::object& steps) { plan_of(self).set_steps(steps); })
      .def_property(
          "scalars", [](const py::object& self) { return plan_of(self).counts().scalars(); },
          [](const py::object& self, const py::object& scalars) {
            plan_of(self).set_scalars(scalars);
          })
      .def_property(
          "watch", [](const py::object& self) { return plan_of(self).watch().on; },
          [](const py::object& self, const py::object& on) {
            plan_of(self).watch().on = boolean("Plan", "watch", on.ptr());
          })
      .def_property_readonly("watched",
                             [](const py::object& self) { return plan_of(self).watch().result(); });
  define_method(plan,
                "step(grads, hyper, unscale, max_value, max_norm, check_nonfinite, zero_grad, "
                "maximize, zero_skipped)",
                &plan_step);
  define_method(plan, "write_steps(to)", &plan_write_steps);
  for (const RuleInfo& rule : rules()) list_contract(plan_contract(rule), plan);
}

}  // namespace onepass::bind
