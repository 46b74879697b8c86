// The memory of Elementwise::factored, which the caller of a rule with factors lends to its passes:
// a host::Factored, then the values that the first one leaves for the rows of each tensor
// (core/factors.h).
#pragma once
#include <vector>

#include "core/factors.h"
#include "core/workspace.h"

namespace onepass {

inline int64_t factored_bytes(const Tensor& tensor, const Factors& own) {
  return factored_row_bytes(tensor.size, own.width, tensor.computing);
}

inline int64_t factored_bytes(const std::vector<Tensor>& tensors,
                              const std::vector<Factors>& factors) {
  int64_t bytes = host::kFactoredBytes;
  for (size_t t = 0; t < tensors.size(); ++t) bytes += factored_bytes(tensors[t], factors[t]);
  return bytes;
}

// Where an update reads the values of its row and its column: operands_of(t) are these two operands
// of tensor t.
template <class OperandsOf>
void place_factored(const std::vector<Tensor>& tensors, const std::vector<Factors>& factors,
                    void* memory, OperandsOf operands_of) {
  auto* const ones = static_cast<host::Factored*>(memory);
  char* rows = static_cast<char*>(memory) + host::kFactoredBytes;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const Tensor& tensor = tensors[t];
    const Factors& own = factors[t];
    Operand* const operands = operands_of(t);
    if (own.height > 0) {
      operands[0].data = rows;
      operands[1].data = own.columns.data;
      rows += factored_bytes(tensor, own);
    } else {
      operands[0].data = own.rows.data;
      operands[1].data =
          tensor.computing == DType::f64 ? static_cast<void*>(&ones->double_one) : &ones->float_one;
    }
  }
}

}  // namespace onepass
