// The workspaces of a plan's passes on a device. They stay from one step to the next, with what
// their tables hold, so that a step over the same arrays writes none of them again.
#pragma once
#include <vector>

#include "bind/target.h"
#include "core/kept_table.h"
#include "core/passes.h"

namespace onepass::bind {

class PlanMemory {
 public:
  // Makes sure of `bytes` for a pass over these parameters, for work on the target's stream;
  // captured: in a graph.
  void prepare(const StepPass* pass, int64_t bytes, const std::vector<size_t>& parameters,
               const Target& where, bool captured);
  // Gives the memory of a pass to its calls.
  void lend_to(const StepPass* pass, StepCalls* calls);
  // A launch has failed: nobody knows what tables hold.
  void forget();

 private:
  struct OfPass {
    const StepPass* pass;
    py::object memory = py::none(), spare = py::none();  // `spare` is for the next call
    int64_t bytes = 0;
    void* stream = nullptr;
    std::vector<size_t> parameters{};
    bool in_graph = false;  // a graph that was captured uses the memory
    KeptTable tables[2]{};
  };
  OfPass& of(const StepPass* pass);

  std::vector<OfPass> all_;
};

}  // namespace onepass::bind
