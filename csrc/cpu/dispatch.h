// Which instruction-set level the CPU kernels run at: the best one the processor has, chosen at the
// first use; ONEPASS_CPU_LEVEL and set_cpu_level choose another for tests.
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
// For tests: runs every CPU array on another table until called with null, which brings back the
// best level. How CUDA's drivers are tried on the simulator of tests/cuda_sim.
void set_test_backend(const Backend* backend);

}  // namespace onepass
