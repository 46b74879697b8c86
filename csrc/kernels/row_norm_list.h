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

ONEPASS_END
