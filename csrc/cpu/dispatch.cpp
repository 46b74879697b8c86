#include "cpu/dispatch.h"

#include <atomic>
#include <cstdlib>

extern "C" {
#ifdef ONEPASS_X86_LEVELS
const onepass::Backend* onepass_cpu_backend_v2();
const onepass::Backend* onepass_cpu_backend_v3();
const onepass::Backend* onepass_cpu_backend_v4();
#else
const onepass::Backend* onepass_cpu_backend_base();
#endif
}

namespace onepass {
namespace {

std::vector<const Backend*> supported() {
#ifdef ONEPASS_X86_LEVELS
  __builtin_cpu_init();
  std::vector<const Backend*> found = {onepass_cpu_backend_v2()};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
    found.push_back(onepass_cpu_backend_v3());
  if (found.size() == 2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    found.push_back(onepass_cpu_backend_v4());
  return found;
#else
  return {onepass_cpu_backend_base()};
#endif
}

const Backend* find(const std::string& level) {
  for (const Backend* backend : supported())
    if (level == backend->name) return backend;
  return nullptr;
}

const Backend* first_choice() {
  const char* wanted = std::getenv("ONEPASS_CPU_LEVEL");
  const Backend* found = wanted ? find(wanted) : nullptr;
  return found ? found : supported().back();
}

std::atomic<const Backend*>& current() {
  static std::atomic<const Backend*> backend{first_choice()};
  return backend;
}

}  // namespace

const Backend& cpu_backend() { return *current().load(std::memory_order_acquire); }

std::vector<std::string> cpu_levels() {
  std::vector<std::string> levels;
  for (const Backend* backend : supported()) levels.push_back(backend->name);
  return levels;
}

bool set_cpu_level(const std::string& level) {
  const Backend* found = find(level);
  if (found) current().store(found, std::memory_order_release);
  return found != nullptr;
}

void set_test_backend(const Backend* backend) {
  current().store(backend ? backend : first_choice(), std::memory_order_release);
}

}  // namespace onepass
