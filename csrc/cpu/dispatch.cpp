#include "cpu/dispatch.h"

#include <atomic>
#include <cstdlib>

// The units of csrc/cpu; each is compiled for every level.
#define ONEPASS_DECLARE_UNITS(level)                       \
  extern "C" {                                             \
  void onepass_cpu_activations_##level(onepass::Backend*); \
  void onepass_cpu_updates_##level(onepass::Backend*);     \
  void onepass_cpu_global_norm_##level(onepass::Backend*); \
  void onepass_cpu_normalise_##level(onepass::Backend*);   \
  void onepass_cpu_losses_##level(onepass::Backend*);      \
  }                                                        \
  static const onepass::Backend& backend_##level() {       \
    static const onepass::Backend backend = [] {           \
      onepass::Backend b;                                  \
      b.name = #level;                                     \
      onepass_cpu_activations_##level(&b);                 \
      onepass_cpu_updates_##level(&b);                     \
      onepass_cpu_global_norm_##level(&b);                 \
      onepass_cpu_normalise_##level(&b);                   \
      onepass_cpu_losses_##level(&b);                      \
      return b;                                            \
    }();                                                   \
    return backend;                                        \
  }
#ifdef ONEPASS_X86_LEVELS
ONEPASS_DECLARE_UNITS(v2)
ONEPASS_DECLARE_UNITS(v3)
ONEPASS_DECLARE_UNITS(v4)
#else
ONEPASS_DECLARE_UNITS(base)
#endif

namespace onepass {
namespace {

std::vector<const Backend*> supported() {
#ifdef ONEPASS_X86_LEVELS
  __builtin_cpu_init();
  std::vector<const Backend*> found = {&backend_v2()};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
    found.push_back(&backend_v3());
  if (found.size() == 2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    found.push_back(&backend_v4());
  return found;
#else
  return {&backend_base()};
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
