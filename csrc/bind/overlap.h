// Tests whether two arrays share memory.
#pragma once
#include "bind/array.h"

namespace onepass::bind {

// Whether any byte belongs to both: exact, or true if that would take too long to find out.
bool overlap(const View& a, const View& b);
// The same elements in the same places.
bool same_memory(const View& a, const View& b);
// The bytes [low, high) from the first element to the last.
struct Extent {
  uintptr_t low, high;
};
Extent extent_of(const View& v);

// `written` shares no memory with `other`, unless it is exactly the same and that is allowed.
void check_overlap(const Array& written, const Array& other, bool exact_alias_allowed);

}  // namespace onepass::bind
