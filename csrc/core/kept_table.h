// What a device still holds of an earlier call's table of tensors, in a workspace that the caller
// keeps from one call to the next: only what has changed is written again.
#pragma once
#include <cstdint>
#include <vector>

namespace onepass {

struct KeptTable {
  const void* at = nullptr;  // where in the workspace; another place: it holds nothing
  std::vector<unsigned char> held;
  // A graph that was captured reads it: it stays as it is, and another one goes elsewhere, after
  // which the caller gives new memory.
  bool in_graph = false, outgrown = false;

  // Whether it holds some of these bytes of the workspace.
  bool overlaps(const void* from, int64_t bytes) const {
    const auto own = reinterpret_cast<uintptr_t>(at), other = reinterpret_cast<uintptr_t>(from);
    return at && own < other + uintptr_t(bytes) && other < own + held.size();
  }
};

}  // namespace onepass
