// The norms over the elements of a channel. A rule's position is its index in
// Backend::channel_norm. kernels/batch_norm.h shows what a rule has; the drivers (cpu/normalise.h,
// cuda/normalise.cuh) take any rule of this list. Its function and its arguments are in bind/, as
// bind/batch_norm.cpp shows.
#pragma once
#include "core/list.h"
#include "kernels/batch_norm.h"
#include "kernels/batch_renorm.h"

ONEPASS_BEGIN

using ChannelNorms = List<BatchNormRule, BatchRenormRule>;
// Those with formulas of elements of their own (see Elements).
using ElementNorms = List<BatchNormRule>;

ONEPASS_END
