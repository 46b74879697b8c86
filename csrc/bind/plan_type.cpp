// The Python type of a plan.
#include "bind/plan.h"

namespace onepass::bind {
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
    plan_of(self).write_steps(py::reinterpret_borrow<py::object>(given[0]));
    return py::none().release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

}  // namespace

void define_plan(py::module_& m) {
  py::tuple stages(static_cast<size_t>(kStageStep));
  for (int v = 0; v < kStageStep; ++v) stages[size_t(v)] = kStageNames[v];
  m.attr("STAGES") = stages;
  const py::handle plain(reinterpret_cast<PyObject*>(&PyType_Type));
  py::class_<Plan> plan(m, "Plan", py::is_final(), py::metaclass(plain));
  plan.def(py::init<const std::string&, const py::object&, const py::object&, const py::object&,
                    const py::object&, const py::object&, const std::string&>(),
           py::arg("kernel"), py::arg("params"), py::arg("states"), py::arg("groups"),
           py::arg("steps") = py::none(), py::arg("stages") = py::none(), py::arg("owner") = "",
           py::pos_only())
      .def(
          "set_stages",
          [](const py::object& self, const py::object& groups, const py::object& rates,
             const py::object& seed) { plan_of(self).set_stages(groups, rates, seed); },
          py::arg("groups"), py::arg("rates"), py::arg("seed"), py::pos_only())
      .def(
          "traffic",
          [](const py::object& self, const py::object& takes, bool clips, bool checks,
             bool zeroes) {
            StepOptions options;
            options.clip_norm = clips;
            options.check_nonfinite = checks;
            options.zero_grad = zeroes;
            return plan_of(self).traffic(takes, options);
          },
          py::arg("takes"), py::arg("clips"), py::arg("checks"), py::arg("zeroes"), py::pos_only())
      .def_property(
          "steps", [](const py::object& self) { return plan_of(self).steps(); },
          [](const py::object& self, const py::object& steps) { plan_of(self).set_steps(steps); })
      .def_property(
          "scalars", [](const py::object& self) { return plan_of(self).scalars(); },
          [](const py::object& self, const py::object& scalars) {
            plan_of(self).set_scalars(scalars);
          })
      .def_property(
          "watch", [](const py::object& self) { return plan_of(self).watches(); },
          [](const py::object& self, const py::object& on) {
            plan_of(self).watch(boolean("Plan", "watch", on.ptr()));
          })
      .def_property_readonly("captured",
                             [](const py::object& self) { return plan_of(self).captured(); })
      .def(
          "renew",
          [](const py::object& self, const py::object& hyper) { plan_of(self).renew(hyper); },
          py::arg("hyper"), py::pos_only())
      .def_property_readonly("watched",
                             [](const py::object& self) { return plan_of(self).watched(); });
  define_method(plan, kStepSignature, &plan_step);
  define_method(plan, "write_steps(to)", &plan_write_steps);
  for (const RuleInfo& rule : rules()) list_contract(plan_contract(rule), plan);
}

}  // namespace onepass::bind
