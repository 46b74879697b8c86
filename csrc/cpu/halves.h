// Runs of float16 to and from float, with the bits of to_float() and from_float().
#pragma once
#include "core/dtype.h"
#include "core/hd.h"

ONEPASS_BEGIN

void load_halves(float* to, const Half* from, int64_t n);
void store_halves(Half* to, const float* from, int64_t n);

ONEPASS_END
