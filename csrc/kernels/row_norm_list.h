// The norms over the elements of a row. A rule's position is its index in Backend::row_norm.
// kernels/layer_norm.h shows what a rule has; the drivers (cpu/row_norm.h, cuda/row_norm.cuh) take
// any rule of this list. Its function and its arguments are in bind/row_norms.cpp.
#pragma once
#include "core/list.h"
#include "kernels/layer_norm.h"
#include "kernels/rms_norm.h"
#include "kernels/weight_norm.h"

ONEPASS_BEGIN

using RowNorms = List<LayerNormRule, RmsNormRule, WeightNormRule>;

// The rule whose kernels do the work of R: itself, unless it names another.
template <class R, class = void>
struct KernelsOf {
  using Rule = R;
};
template <class R>
struct KernelsOf<R, std::void_t<typename R::Kernels>> {
  using Rule = typename R::Kernels;
};

ONEPASS_END
