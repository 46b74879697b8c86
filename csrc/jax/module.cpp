// The extension onepass._jax: the kernels as custom calls of XLA. All of them are lent by _C.
#include <pybind11/pybind11.h>

#include "jax/frame.h"

namespace onepass::jax {
namespace {

namespace py = pybind11;

constexpr struct {
  const char* name;
  XLA_FFI_Handler* handler;
} kTargets[] = {
    {"onepass_activation", &handler<&activation>},
    {"onepass_activation_backward", &handler<&activation_backward>},
    {"onepass_dropout", &handler<&dropout>},
    {"onepass_bias_act", &handler<&bias_act>},
    {"onepass_bias_act_backward", &handler<&bias_act_backward>},
    {"onepass_batch_norm", &handler<&batch_norm>},
    {"onepass_batch_norm_backward", &handler<&batch_norm_backward>},
    {"onepass_row_norm", &handler<&row_norm>},
    {"onepass_row_norm_backward", &handler<&row_norm_backward>},
    {"onepass_cross_entropy", &handler<&cross_entropy>},
    {"onepass_update", &handler<&update>},
    {"onepass_average", &handler<&average>},
    {"onepass_muon", &handler<&muon>},
    {"onepass_global_norm", &handler<&global_norm>},
    {"onepass_unflatten", &handler<&unflatten>},
};

// On any other platform than the CPU.
void no_device(const Frame&) {
  throw Refused(
      "the arrays lie on a GPU, and onepass.jax runs on the CPU alone: put them there, "
      "jax.device_put(x, jax.devices('cpu')[0])");
}

py::capsule capsule_of(XLA_FFI_Handler* function) {
  return py::capsule(reinterpret_cast<void*>(function), "xla._CUSTOM_CALL_TARGET");
}

// Name → handler, of the kernels in the capsule.
py::dict targets(const py::capsule& lent, int64_t release) {
  if (!PyCapsule_IsValid(lent.ptr(), lent_name()))
    throw py::import_error(
        "onepass.jax: _jax and _C of onepass were built from different sources: install onepass "
        "again");
  set_lent(static_cast<const Lent*>(PyCapsule_GetPointer(lent.ptr(), lent_name())), release);
  py::dict all;
  for (const auto& target : kTargets) all[target.name] = capsule_of(target.handler);
  return all;
}

}  // namespace
}  // namespace onepass::jax

PYBIND11_MODULE(_jax, m, pybind11::mod_gil_not_used()) {
  using namespace onepass::jax;
  m.doc() = "The kernels of onepass as custom calls of XLA. Private: see onepass.jax.";
  m.def("targets", &targets,
        "The handler of each target, for the kernels that _C.lent() lends, and for calls of that "
        "release.");
  m.def(
      "no_device",
      [] {
        return capsule_of(
            [](XLA_FFI_CallFrame* frame) -> XLA_FFI_Error* { return handle(*frame, &no_device); });
      },
      "The handler of all of them where there are no kernels: it fails and says so.");
}
