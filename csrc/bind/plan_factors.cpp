// plan_arrays.h: the states of rows and columns, of rules with factors (core/rule.h).
#include "bind/plan_arrays.h"
#include "core/factored.h"

namespace onepass::bind {
namespace {

// C-order strides, in elements, of an array of these extents, where axis `alone` has one element.
void set_strides(const View& param, int alone, int64_t* strides) {
  int64_t next = 1;
  for (int d = param.ndim - 1; d >= 0; --d) {
    strides[d] = d == alone ? 0 : next;
    if (d != alone) next *= param.shape[d];
  }
}

}  // namespace

// Each is there where the parameter has such values, and has their shape.
void PlanArrays::check_factors(const Array* arrays) const {
  constexpr const char* kOf[] = {"row", "column", "element"};
  const Array& param = arrays[kParam];
  const bool matrices = param.ndim >= 2;
  for (size_t f = 0; f < 3; ++f) {
    const Array& state = arrays[first_factor_ + f];
    const bool wanted = matrices == (f < 2);
    const std::string label =
        "'" + std::string(name_of(first_factor_ + f)) + "[" + std::to_string(param.index) + "]'";
    const std::string why = std::string(": a value for each ") + kOf[f] + " of " + param.label();
    if (!wanted) {
      if (state)
        value_error(op_, label + " is given, expected None: " + param.label() + " has shape " +
                             shape_text(param) +
                             (matrices ? ", so its rows and columns have the values"
                                       : ", without rows and columns"));
      continue;
    }
    int64_t shape[kMaxAxes];
    std::copy(param.shape, param.shape + param.ndim, shape);
    if (f < 2) shape[param.ndim - 1 - int(f)] = 1;
    if (!state)
      value_error(op_, label + " is None, expected an array of shape " +
                           shape_text(shape, param.ndim) + why);
    check_shape(state, shape, param.ndim, why.c_str());
  }
}

// The operands that an update reads have the parameter's shape, with stride 0 along a row or
// column.
void PlanArrays::spread_factors(size_t i, const Array* arrays, Spread* spread) {
  Slot& slot = slots_[i];
  const Array& param = arrays[kParam];
  const bool matrices = param.ndim >= 2;
  slot.factors.height = matrices ? param.shape[param.ndim - 2] : 0;
  slot.factors.width = matrices ? param.shape[param.ndim - 1] : 0;
  const Array& row = arrays[first_factor_ + (matrices ? 0 : 2)];
  const Array& column = arrays[first_factor_ + (matrices ? 1 : 2)];
  slot.factors.rows = {row.data, row.dtype(), nullptr};
  slot.factors.columns = {column.data, column.dtype(), nullptr};
  // For matrices the pass leaves the rows' values in its own memory, for other tensors a 1.
  const auto computing = Element(int(slot.computing));
  set_strides(param, matrices ? param.ndim - 1 : -1, spread->strides[0]);
  set_strides(param, param.ndim - 2, spread->strides[1]);
  if (!matrices) std::fill_n(spread->strides[1], param.ndim, 0);
  Array* const both[] = {&spread->of_row, &spread->of_column};
  for (size_t f = 0; f < 2; ++f) {
    Array& a = *both[f];
    a.shape = param.shape;
    a.strides = spread->strides[f];
    a.ndim = param.ndim;
    a.element = (f == 0) == matrices ? computing : (f == 0 ? row : column).element;
    a.stride_unit = a.itemsize();
  }
}

int64_t PlanArrays::factored_bytes() const {
  return onepass::factored_bytes(tensors_, all_factors_);
}

void PlanArrays::place_factored(void* memory) {
  onepass::place_factored(tensors_, all_factors_, memory, [this](size_t t) {
    return operands_.data() + order_[t] * arity_ + first_factor_;
  });
}

}  // namespace onepass::bind
