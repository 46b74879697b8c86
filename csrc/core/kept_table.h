// What a device still holds of an earlier call's table of tensors, in a workspace that the caller
// keeps from one call to the next: only what has changed is written again.
#pragma once
#include <vector>

namespace onepass {

struct KeptTable {
  const void* at = nullptr;  // where in the workspace; another place: it holds nothing
  std::vector<unsigned char> held;
  // A graph that was captured reads it: it stays as it is, and another one goes elsewhere, after
  // which the caller gives new memory.
  bool in_graph = false, outgrown = false;
};

}  // namespace onepass
