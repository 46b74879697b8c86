// keep_word and step_bits of core/philox.h for many words at once.
//
// Fastest if first_word is a multiple of 4 and count a multiple of 64 (2048 elements: a vector of
// groups at every level). Counts of 32 cost 1.5 times as much with AVX-512 and the same without;
// other counts and offsets cost a whole block of 32 for each incomplete one. A `first` that is a
// multiple of 128 costs nothing, any other one block more a call. Any split gives the same bits.
#pragma once
#include "core/philox.h"

ONEPASS_BEGIN

// The keep bits of elements 32 * (first_word + i) ... + 31 of an array, element 0 of which is
// s.first of the mask, to out[i] for i in [0, count).
void keep_words(uint32_t* out, int64_t first_word, int64_t count, DropoutStream s);

// The bits of groups [group, group + count), four words each: step_bits of core/philox.h.
void step_words(uint32_t* out, uint64_t group, int64_t count, StepStream s, Draw draw);

ONEPASS_END
