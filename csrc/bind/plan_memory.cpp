#include "bind/plan_memory.h"

namespace onepass::bind {

PlanMemory::OfPass& PlanMemory::of(const StepPass* pass) {
  for (OfPass& own : all_)
    if (own.pass == pass) return own;
  return all_.emplace_back(OfPass{pass});
}

void PlanMemory::prepare(const StepPass* pass, int64_t bytes, const Target& where, bool captured) {
  OfPass& own = of(pass);
  const auto any = [&](auto member) { return own.tables[0].*member || own.tables[1].*member; };
  // The pool of another stream may hand the memory out again while work on this one uses it. A
  // graph orders itself after what came before, and keeps the memory.
  const bool fits = bytes <= own.bytes && (captured || own.stream == where.stream);
  if (!fits || (any(&KeptTable::outgrown) && !captured)) {
    own.memory = lend(where, bytes, "uint8");
    own.bytes = bytes;
    own.stream = where.stream;
    for (KeptTable& table : own.tables) table = {};
  }
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
