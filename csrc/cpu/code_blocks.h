// Converts blocks of 8-bit states (core/codes.h) to and from first-level-cache scratch.
// code_blocks.cpp compiles the loops once per level, so that the units of optimizers need not.
#pragma once
#include "core/codes.h"
#include "core/hd.h"

ONEPASS_BEGIN

// The random bits that round the elements of a block, the same for every block of a state in a
// step.
struct CodeDither {
  alignas(64) uint32_t at[kCodeBlock];
};
void fill_dither(uint32_t salt, CodeDither* dither);

// n <= kCodeBlock elements of a block; `is_signed`: int8. `state` is scratch for a whole block.
void load_codes(const uint8_t* codes, float scale, bool is_signed, int64_t n, float* state);
void store_codes(float* state, bool is_signed, const CodeDither& dither, int64_t n, uint8_t* codes,
                 float* scale);

ONEPASS_END
