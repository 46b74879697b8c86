// How the arrays of an elementwise call lie in memory, in the fewest dimensions.
#pragma once
#include "bind/array.h"
#include "core/backend.h"

namespace onepass::bind {

// Operands of one shape, in as few dimensions as possible; dense ones have null strides.
struct Layout {
  int64_t size;
  int32_t ndim;
  int64_t shape[kMaxDims];
  int64_t strides[kMaxOperands][kMaxDims];
  Operand operands[kMaxOperands];
};
// keep_order: elements keep their C-order index (for functors that draw); otherwise dimensions are
// sorted and flipped to run along the first operand's memory. Shapes are equal already.
void arrange(Layout* layout, const Array* const* arrays, int count, bool keep_order);

}  // namespace onepass::bind
