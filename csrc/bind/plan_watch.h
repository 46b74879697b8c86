// The effect of each step of a plan on its parameters, for diagnostics: the norms of the parameter,
// its gradient and its change. On a device they stay there until somebody reads them.
#pragma once
#include <vector>

#include "bind/host_memory.h"
#include "bind/target.h"
#include "core/backend.h"

namespace onepass::bind {

class PlanWatch {
 public:
  bool on = false;

  // Prepares the two passes over these tensors of `parameters`; memory comes from the target, or
  // without one from the host.
  void prepare(const Elementwise& update, size_t parameters, const Target* target);
  const Elementwise& before() const { return before_; }
  const Elementwise& after() const { return after_; }
  // The step was taken or skipped: keeps its norms, of the parameters in `order`.
  void keep(const std::vector<size_t>& order, const Target* target);
  // (norms of parameters, of gradients, of changes), each a list with None where there was no
  // gradient; on a device (array, the parameters that had one, how many there are, device, stream).
  // The array has norms of parameter and gradient for each parameter, then of the change for each.
  py::object result() const { return result_; }

 private:
  std::vector<Tensor> tensors_;
  std::vector<Operand> operands_;  // of each tensor: parameter, gradient, copy
  Elementwise before_, after_;
  HostMemory copies_;
  std::vector<double> norms_;
  py::object device_copies_, device_norms_;
  size_t parameters_ = 0;
  py::object result_ = py::none();
};

}  // namespace onepass::bind
