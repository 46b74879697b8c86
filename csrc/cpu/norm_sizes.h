// Sizes that the normalise driver and its leaves share.
#pragma once
#include "core/hd.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

constexpr int64_t kUnits = 1024;   // units of a region: what a task keeps of each on its stack
constexpr int64_t kAdded = 8;      // rows added before a sum is touched
constexpr int64_t kLine = 64;      // bytes; what many rows meet starts with a line
constexpr int64_t kSumLanes = 32;  // a plane's sum is this many

// True if a select costs no more than a masked instruction.
#ifdef __AVX512F__
constexpr bool kMaskedLanes = true;
#else
constexpr bool kMaskedLanes = false;
#endif

}  // namespace normalise
}  // namespace
ONEPASS_END
