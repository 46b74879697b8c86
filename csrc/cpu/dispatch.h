// Chooses the instruction-set level of the CPU kernels at the first use: the best one that the
// processor has. ONEPASS_CPU_LEVEL and set_cpu_level choose another for tests.
#pragma once
#include <string>
#include <vector>

#include "core/backend.h"

namespace onepass {

const Backend& cpu_backend();
// Levels this build has and this processor supports, lowest first.
std::vector<std::string> cpu_levels();
// False, with nothing changed, where cpu_levels() does not hold the level.
bool set_cpu_level(const std::string& level);
// For tests: runs calls on CPU arrays through another table until called with null, which restores
// the best level. The simulator of tests/cuda_sim runs CUDA's drivers this way.
void set_test_backend(const Backend* backend);

}  // namespace onepass
