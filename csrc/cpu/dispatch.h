// Chooses the instruction-set level of the CPU kernels on first use: the best one that the
// processor supports, unless ONEPASS_CPU_LEVEL or set_cpu_level (for tests) says otherwise.
#pragma once
#include <string>
#include <vector>

#include "core/backend.h"

namespace onepass {

const Backend& cpu_backend();
// Levels this build has and this processor supports, lowest first.
std::vector<std::string> cpu_levels();
// Returns false, and changes nothing, if cpu_levels() does not hold the level.
bool set_cpu_level(const std::string& level);
// For tests: runs calls on CPU arrays through another table; null restores the best level. The
// simulator of tests/cuda_sim runs the CUDA drivers this way.
void set_test_backend(const Backend* backend);

}  // namespace onepass
