#include "bind/plan_memory.h"

namespace onepass::bind {

PlanMemory::OfPass& PlanMemory::of(const StepPass* pass) {
  for (OfPass& own : all_)
    if (own.pass == pass) return own;
  return all_.emplace_back(OfPass{pass});
}

void PlanMemory::prepare(const StepPass* pass, int64_t bytes, const std::vector<size_t>& parameters,
                         const Target& where, bool captured) {
  OfPass& own = of(pass);
  const auto any = [&](auto member) { return own.tables[0].*member || own.tables[1].*member; };
  // The pool of another stream may hand the memory out again while work on this one uses it. A
  // graph orders itself after what came before, and keeps the memory.
  const bool fits = bytes <= own.bytes && (captured || own.stream == where.stream);
  // Other parameters have their sums where these have tables: a pass lays the memory out for its
  // list.
  const bool same_list = own.parameters == parameters;
  if (!fits || (!same_list && own.in_graph) || (any(&KeptTable::outgrown) && !captured)) {
    own.memory = lend(where, bytes, "uint8");
    own.bytes = bytes;
    own.stream = where.stream;
    own.in_graph = false;
    for (KeptTable& table : own.tables) table = {};
  } else if (!same_list) {
    for (KeptTable& table : own.tables) table = {};
  }
  own.parameters = parameters;
  own.in_graph = own.in_graph || captured;
  if (captured && own.bytes > 0) keep_for_graph(own.memory);
  const bool spares = own.bytes > 0 && (captured || any(&KeptTable::in_graph));
  own.spare = spares ? lend(where, bytes, "uint8") : py::object(py::none());
}

void PlanMemory::lend_to(const StepPass* pass, StepCalls* calls) {
  OfPass& own = of(pass);
  calls->workspace = own.bytes > 0 ? pointer_of(own.memory) : nullptr;
  calls->tables = own.tables;
  calls->spare = own.spare.is_none() ? nullptr : pointer_of(own.spare);
}

void PlanMemory::forget() {
  for (OfPass& own : all_)
    for (KeptTable& table : own.tables) table = {};
}

}  // namespace onepass::bind
