#include "bind/plan.h"

#include "cpu/dispatch.h"

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

py::object outcome(PyObject* skipped, const py::object& norm, const py::object& nonfinite) {
  return py::reinterpret_steal<py::object>(PyTuple_Pack(3, skipped, norm.ptr(), nonfinite.ptr()));
}

}  // namespace

Plan::Plan(const std::string& kernel, const py::object& params, const py::object& states,
           const py::object& groups, const py::object& steps, const py::object& stages,
           const std::string& owner)
    : rule_(rule_named(kernel)),
      owner_(owner),
      op_(owner_.empty() ? rule_.name : owner_.c_str()),
      arrays_(rule_, op_, params, states, stages),
      counts_(rule_, op_, arrays_.count()),
      rows_(rule_, op_, groups, arrays_) {
  if (!steps.is_none()) {
    counts_.set_steps(steps);
  } else if (arrays_.on_device()) {
    counts_.move_to_device(arrays_.target(nullptr), rows_.all_numbers());
  }
}

void Plan::set_stages(const py::object& groups, const py::object& rates, const py::object& seed) {
  const Busy busy(op_, busy_);
  rows_.set_stages(groups, rates, seed);
  arrays_.keep_order(rows_.need_order());
}
py::list Plan::steps() {
  const Busy busy(op_, busy_);
  return counts_.steps();
}
void Plan::set_steps(const py::object& steps) {
  const Busy busy(op_, busy_);
  counts_.set_steps(steps);
}
void Plan::write_steps(const py::object& to) {
  const Busy busy(op_, busy_);
  counts_.write_steps(to);
}
py::dict Plan::scalars() {
  const Busy busy(op_, busy_);
  return counts_.scalars();
}
void Plan::set_scalars(const py::object& scalars) {
  const Busy busy(op_, busy_);
  counts_.set_scalars(scalars);
}
bool Plan::watches() {
  const Busy busy(op_, busy_);
  return watch_.on;
}
void Plan::watch(bool on) {
  const Busy busy(op_, busy_);
  watch_.on = on;
}
py::object Plan::watched() {
  const Busy busy(op_, busy_);
  return watch_.result();
}

py::object Plan::step(const Arguments& given) {
  given.expect(op_, kStepArguments);
  const Busy busy(op_, busy_);
  const Items grads(op_, "grads", given[kGrads]);
  const StepOptions options = read_options(op_, given);
  rows_.read(given[kHyper]);
  Staging staging;
  PlanArrays::Held held;
  arrays_.refresh(grads, &staging, options.zero_grad, &held);
  rows_.assign(&arrays_, counts_);
  if (options.unscale != 1) check_unscale(op_, options.unscale, arrays_.tensors());
  return arrays_.on_device() ? step_on_device(grads, options)
                             : step_on_cpu(grads, options, &staging);
}

void Plan::renew(const py::object& hyper) {
  const Busy busy(op_, busy_);
  rows_.read(hyper.ptr());
  if (!counts_.on_device()) return;  // each step on the host reads them itself
  const std::vector<double> numbers = rows_.numbers();
  const Target where = arrays_.target(nullptr);
  HostBytes bytes = counts_.numbers_for(numbers);
  bytes.stream = where.stream;
  const Launches launches(where);
  launches.run(where.backend->write, bytes, bytes.size);
  launches.finish();
}

StepPasses Plan::passes_for(const StepOptions& options) const {
  StepNeeds needs;
  needs.global_norm = needs.decision = options.measures();
  needs.watch = watch_.on;
  needs.factors = !rule_.factors.empty();
  needs.norms = !rule_.norms.empty();
  needs.limit = rows_.stages().has_limit;
  return passes_of(needs);
}

py::list Plan::traffic(const py::object& takes, const StepOptions& options) const {
  const Items taken(op_, "takes", takes.ptr());
  arrays_.check_count("takes", size_t(taken.count()));
  py::list found;
  const KernelInfo& kernel = arrays_.kernel();
  for (const StepPass* pass : passes_for(options)) {
    if (!pass->name) continue;
    int64_t bytes = 0;
    for (size_t i = 0; i < arrays_.count(); ++i) {
      if (!boolean(op_, "takes", taken[Py_ssize_t(i)])) continue;
      Moves moves{kernel.accesses.data(), kernel.operands.size(),
                  rule_.first_factor(),   rule_.factors.size(),
                  options.zero_grad,      arrays_.has_rows(i) && rows_.max_row_norm(i) > 0,
                  arrays_.has_master(i),  {}};
      moves.times.assign(moves.operands + kStageOperands + 1, 0);
      pass->move(&moves);
      bytes += arrays_.bytes(i, moves.times);
    }
    found.append(py::make_tuple(pass->name, bytes));
  }
  return found;
}

GlobalNorm Plan::norm_call(const StepOptions& options) {
  GlobalNorm call;
  call.tensors = arrays_.tensors().data();
  call.count = int64_t(arrays_.tensors().size());
  call.schedule = arrays_.schedule();
  call.operand = int32_t(kGrad);
  call.unscale = options.unscale;
  call.max_value = options.max_value;
  if (options.grad_scale.array) call.grad_scale = options.grad_scale.number();
  return call;
}

Elementwise Plan::update_call(const StepOptions& options) {
  Elementwise call;
  call.tensors = arrays_.tensors().data();
  call.count = int64_t(arrays_.tensors().size());
  call.schedule = arrays_.schedule();
  rows_.describe(&call);
  call.stages.in_order = arrays_.in_order();
  call.norm_count = int64_t(rule_.norms.size());
  call.rider.unscale = options.unscale;
  call.rider.max_value = options.max_value;
  call.rider.coefficient = options.maximize ? -1.0 : 1.0;
  call.rider.zero_grad = options.zero_grad;
  call.rider.max_norm = options.clip_norm ? options.max_norm : -1;
  if (options.grad_scale.array) call.rider.grad_scale = options.grad_scale.number();
  if (options.limit.array) call.rider.device_max_norm = options.limit.number();
  call.rider.skip_nonfinite = options.check_nonfinite;
  call.rider.zero_skipped = options.zero_skipped;
  return call;
}

StepCalls Plan::calls_for(const Backend& backend, const StepOptions& options) {
  const KernelInfo& kernel = arrays_.kernel();
  return {
      backend,          kernel.index,   kernel.variant, norm_call(options), update_call(options),
      &watch_.before(), &watch_.after()};
}

py::object Plan::step_on_cpu(const Items& grads, const StepOptions& options, Staging* staging) {
  Target here{&cpu_backend()};
  order_numbers(op_, options, &here);
  const int64_t elements = arrays_.elements();
  const StepPasses passes = passes_for(options);
  StepCalls calls = calls_for(cpu_backend(), options);
  calls.norm.result = &calls.measured;
  if (!rule_.norms.empty()) {
    norms_.resize(arrays_.count() * rule_.norms.size());
    calls.update.norms = norms_.data();
  }
  if (!rule_.factors.empty()) {
    calls.update.factored = factored_.at_least(arrays_.factored_bytes());
    arrays_.place_factored(calls.update.factored);
    calls.update.factors = arrays_.factors().data();
  }
  if (watch_.on) watch_.prepare(calls.update, arrays_.count(), nullptr);
  calls.workspace = workspace_.at_least(passes.workspace(calls));
  if (elements > 0) {
    const ReleaseGil released(elements);
    for (const StepPass* pass : passes) pass->run(&calls);
  }
  const GlobalNormResult& norm = calls.measured;
  const std::vector<size_t>& order = arrays_.order();
  if (watch_.on) watch_.keep(order, nullptr);
  if (!calls.skipped) {
    staging->store();
    rows_.count(arrays_, &counts_);
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
// reads the result finds out whether the step was skipped. The result is (None, GlobalNormResult as
// an array of its fields, (index of each tensor's parameter, device, stream)).
py::object Plan::step_on_device(const Items& grads, const StepOptions& options) {
  const std::vector<size_t>& order = arrays_.order();
  if (order.empty()) {
    if (watch_.on) {
      watch_.prepare({}, arrays_.count(), nullptr);
      watch_.keep(order, nullptr);
    }
    return outcome(Py_False, py::none(), py::none());
  }
  Target where = arrays_.target(&grads);
  order_numbers(op_, options, &where);
  const StepPasses passes = passes_for(options);
  StepCalls calls = calls_for(*where.backend, options);
  calls.norm.stream = calls.update.stream = where.stream;
  if (counts_.on_device()) counts_.ride(where, &calls.update, &calls.norm);
  py::object result = py::none(), norms, factored;
  if (!rule_.norms.empty()) {
    norms = lend(where, int64_t(arrays_.count() * rule_.norms.size()), "float64");
    calls.update.norms = static_cast<double*>(pointer_of(norms));
  }
  if (!rule_.factors.empty()) {
    factored = lend(where, arrays_.factored_bytes(), "uint8");
    calls.update.factored = pointer_of(factored);
    arrays_.place_factored(calls.update.factored);
    calls.update.factors = arrays_.factors().data();
  }
  if (watch_.on) watch_.prepare(calls.update, arrays_.count(), &where);
  const bool captured = captures(where);
  if (captured) counts_.give_numbers(&calls.update);
  for (const StepPass* pass : passes)
    memory_.prepare(pass, pass->workspace(calls), order, where, captured);
  if (options.measures()) {
    result = lend(where, sizeof(GlobalNormResult) / sizeof(double), "float64");
    calls.norm.result = static_cast<GlobalNormResult*>(pointer_of(result));
    calls.update.rider.norm = calls.norm.result;
  }
  try {
    const Launches launches(where);
    for (const StepPass* pass : passes) {
      memory_.lend_to(pass, &calls);
      launches.run(pass->run, &calls, arrays_.elements());
    }
    launches.finish();
  } catch (...) {
    memory_.forget();
    throw;
  }
  captured_ = captured_ || (captured && counts_.on_device());
  if (watch_.on) watch_.keep(order, &where);
  arrays_.mark_written(grads, options.zero_grad);
  if (!counts_.on_device() && !options.check_nonfinite)  // the step is sure to be taken
    rows_.count(arrays_, &counts_);
  if (!options.measures()) return outcome(Py_False, py::none(), py::none());
  py::tuple positions(options.check_nonfinite ? order.size() : 0);
  for (size_t t = 0; t < positions.size(); ++t) positions[t] = order[t];
  return outcome(
      Py_None, result,
      py::make_tuple(positions, where.device, reinterpret_cast<uintptr_t>(where.stream)));
}

}  // namespace onepass::bind
