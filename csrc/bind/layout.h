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
  // Lent by whoever makes a layout, for as many operands as it has.
  int64_t (*strides)[kMaxDims];
  Operand* operands;
};
// With memory for kCount operands.
template <int kCount>
struct LayoutOf : Layout {
  LayoutOf() : Layout{} {
    strides = own_strides;
    operands = own_operands;
  }
  LayoutOf(const LayoutOf&) = delete;

 private:
  int64_t own_strides[kCount][kMaxDims];
  Operand own_operands[kCount];
};
// keep_order: elements keep their C-order index (for functors that draw); otherwise dimensions are
// sorted and flipped to run along the first operand's memory. Shapes are equal already.
void arrange(Layout* layout, const Array* const* arrays, int count, bool keep_order);

}  // namespace onepass::bind
