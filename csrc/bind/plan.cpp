// The steps of a plan, and its Python type.
#include "bind/plan.h"

#include "cpu/dispatch.h"
#include "kernels/gradient.h"

namespace onepass::bind {
namespace {

struct Busy {
  bool& flag;
  Busy(const char* op, bool& f) : flag(f) {
    if (flag)
      throw std::runtime_error(std::string(op) + ": another thread is running a step of this plan");
    flag = true;
  }
  ~Busy() { flag = false; }
};

py::object outcome(PyObject* skipped, const py::object& norm, const py::object& nonfinite) {
  return py::reinterpret_steal<py::object>(PyTuple_Pack(3, skipped, norm.ptr(), nonfinite.ptr()));
}

}  // namespace

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
  const auto wanted = Py_ssize_t(info_.hyper.size() - counts_steps_);
  group_hyper_.clear();
  for (Py_ssize_t g = 0; g < group_count_; ++g) {
    const Items row(op_, "hyper", groups[g]);
    if (row.count() != wanted)
      value_error(op_, "hyper[" + std::to_string(g) + "] has " + std::to_string(row.count()) +
                           " values, expected " + std::to_string(wanted));
    for (Py_ssize_t h = 0; h < wanted; ++h)
      group_hyper_.push_back(real(op_, info_.hyper[size_t(h)], row[h]));
  }
}

// One row of hyper-parameters for every pair of group and step count that occurs.
void Plan::assign_hyper_sets() {
  // Where the device counts, a row serves the whole group and the step in it is not read.
  const bool counts = counts_steps_, known_here = counts && !device_steps_;
  const size_t given = info_.hyper.size() - counts;
  hyper_sets_.clear();
  hyper_.clear();
  size_t at = 0;
  for (size_t t = 0; t < tensors_.size(); ++t) {
    const Slot& slot = slots_[order_[t]];
    const HyperSet wanted{slot.group, known_here ? slot.step + 1 : 0};
    auto is_wanted = [&](const HyperSet& s) {
      return s.group == wanted.group && s.step == wanted.step;
    };
    if (at >= hyper_sets_.size() || !is_wanted(hyper_sets_[at])) {
      at = size_t(std::find_if(hyper_sets_.begin(), hyper_sets_.end(), is_wanted) -
                  hyper_sets_.begin());
      if (at == hyper_sets_.size()) {
        hyper_sets_.push_back(wanted);
        const double* row = group_hyper_.data() + size_t(slot.group) * given;
        hyper_.insert(hyper_.end(), row, row + given);
        if (counts) hyper_.push_back(double(wanted.step));
      }
    }
    tensors_[t].hyper_set = int32_t(at);
  }
}

void Plan::mark(const Items& grads, bool zero_grad) const {
  if (!any_torch_) return;
  py::list written;
  for (const size_t i : order_) {
    if (!slots_[i].torch) continue;
    written.append(params_[i]);
    if (zero_grad) written.append(py::handle(grads[Py_ssize_t(i)]));
  }
  if (written.size() > 0) mark_written(written);
}

py::object Plan::step(const Arguments& given) {
  given.expect(op_, 9);
  const Busy busy(op_, busy_);
  const Items grads(op_, "grads", given[0]);
  const StepOptions options = read_options(given);
  read_hyper(given[1]);
  Staging staging;
  refresh_all(grads, &staging, options.zero_grad);
  assign_hyper_sets();
  return on_device() ? step_on_device(grads, options) : step_on_cpu(grads, options, &staging);
}

// What both have in common: no step is skipped, clipped or counted yet.
Norm Plan::norm_call(const StepOptions& options) const {
  return {tensors_.data(), int64_t(tensors_.size()), schedule_.view(),  int32_t(kGrad),
          NormOrder::two,  options.unscale,          options.max_value, nullptr,
          nullptr};
}
Elementwise Plan::update_call(const StepOptions& options) const {
  return {tensors_.data(),
          int64_t(tensors_.size()),
          schedule_.view(),
          hyper_.data(),
          int64_t(hyper_sets_.size()),
          int64_t(info_.hyper.size()),
          {0, 0, 0},
          {options.unscale, options.max_value, options.maximize ? -1.0 : 1.0, options.zero_grad,
           nullptr, 0, false},
          nullptr};
}

py::object Plan::step_on_cpu(const Items& grads, const StepOptions& options, Staging* staging) {
  const Backend& backend = cpu_backend();
  NormResult norm{0, 0, -1};
  bool skipped = false;
  {
    const ReleaseGil released(elements_);
    if (options.measures() && elements_ > 0) {
      Norm call = norm_call(options);
      call.result = &norm;
      backend.norm(call);
    }
    skipped = options.check_nonfinite && norm.first_nonfinite >= 0;
    if (!skipped && elements_ > 0) {
      Elementwise call = update_call(options);
      if (options.clip_norm)
        call.rider.coefficient *= host::clip_coefficient(options.max_norm, norm.clamped_norm);
      backend.update[info_.index](call);
    }
  }
  if (!skipped) {
    staging->store();
    for (const size_t i : order_) ++slots_[i].step;
    mark(grads, options.zero_grad);
  } else if (options.zero_grad && options.zero_skipped) {
    for (const size_t i : order_) {
      Array grad;
      open(&grad, op_, info_.operands[kGrad], grads[Py_ssize_t(i)], int64_t(i));
      fill_zero(grad);
      mark_written(grad);
    }
  }
  py::object norm_out = py::none(), index_out = py::none();
  if (options.clip_norm) norm_out = py::float_(norm.norm);
  if (norm.first_nonfinite >= 0) index_out = py::int_(order_[size_t(norm.first_nonfinite)]);
  return outcome(skipped ? Py_True : Py_False, norm_out, index_out);
}

// Where a step runs. Without gradients: where the plan's own arrays are.
Target Plan::target(const Items* grads) const {
  Array first;
  open(&first, op_, info_.operands[kParam], object(0, kParam, nullptr), 0);
  Target where = check_device(&first, 1);
  if (!grads) return where;
  for (const Place& place : foreign_) {
    Array a;
    open(&a, op_, info_.operands[place.operand],
         object(place.slot, place.operand, (*grads)[Py_ssize_t(place.slot)]), int64_t(place.slot));
    add_stream(&where, a);
  }
  return where;
}

// Nothing is waited for: the update reads the norm and the counts where they are, and whether it
// was skipped is for the reader of the result to find out. The result is (None, NormResult as an
// array of three, (index of each tensor's parameter, device, stream)).
py::object Plan::step_on_device(const Items& grads, const StepOptions& options) {
  if (tensors_.empty()) return outcome(Py_False, py::none(), py::none());
  const Target where = target(&grads);
  const Backend& backend = *where.backend;
  Norm norm = norm_call(options);
  Elementwise update = update_call(options);
  norm.stream = update.stream = where.stream;
  norm.schedule.elements = update.schedule.elements = elements_;
  if (device_steps_) {
    update.rider.steps = device_steps_.counts();
    update.rider.ticket = device_steps_.tickets();
    norm.ticket = device_steps_.tickets() + 1;
  }
  int64_t bytes = workspace_bytes(backend, update);
  py::object result = py::none(), workspace;
  if (options.measures()) {
    bytes = std::max(bytes, workspace_bytes(backend, norm));
    result = lend(where, sizeof(NormResult) / sizeof(double), "float64");
    norm.result = static_cast<NormResult*>(pointer_of(result));
    update.rider.norm = norm.result;
    update.rider.max_norm = options.clip_norm ? options.max_norm : 0;
    update.rider.skip_nonfinite = options.check_nonfinite;
    update.rider.zero_skipped = options.zero_skipped;
  }
  if (bytes > 0) {  // of both, one after the other
    workspace = lend(where, bytes, "uint8");
    norm.workspace = update.workspace = pointer_of(workspace);
  }
  {
    const Launches launches(where);
    if (options.measures()) launches.run(backend.norm, norm, elements_);
    launches.run(backend.update[info_.index], update, elements_);
    launches.finish();
  }
  device_steps_.follow(where);
  mark(grads, options.zero_grad);
  if (!options.measures()) return outcome(Py_False, py::none(), py::none());
  py::tuple positions(options.check_nonfinite ? order_.size() : 0);
  for (size_t t = 0; t < positions.size(); ++t) positions[t] = order_[t];
  return outcome(
      Py_None, result,
      py::make_tuple(positions, where.device, reinterpret_cast<uintptr_t>(where.stream)));
}

namespace {

// Of an object made by Plan.__new__ alone, pybind11 would hand out memory that nobody has filled.
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

}  // namespace

void define_plan(py::module_& m) {
  const py::handle plain(reinterpret_cast<PyObject*>(&PyType_Type));
  py::class_<Plan> plan(m, "Plan", py::is_final(), py::metaclass(plain));
  plan.def(py::init<const std::string&, const py::object&, const py::object&, const py::object&,
                    const py::object&>(),
           py::arg("kernel"), py::arg("params"), py::arg("states"), py::arg("groups"),
           py::arg("steps") = py::none(), py::pos_only())
      .def_property(
          "steps", [](const py::object& self) { return plan_of(self).steps(); },
          [](const py::object& self, const py::object& steps) { plan_of(self).set_steps(steps); });
  define_method(plan,
                "step(grads, hyper, unscale, max_value, max_norm, check_nonfinite, zero_grad, "
                "maximize, zero_skipped)",
                &plan_step);
}

}  // namespace onepass::bind
