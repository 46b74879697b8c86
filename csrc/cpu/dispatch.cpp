#include "cpu/dispatch.h"

#include <atomic>
#include <cstdlib>

#include "cpu/streams.h"
#include "formula_units.h"
#define ONEPASS_FORMULA none  // the names in the lists are enough
#include "kernels/tables.h"

// unit(name, level) for every unit that fills a part of the table. CMake lists those of formulas.
#define ONEPASS_UNITS(unit, level)                                                          \
  unit(dropout, level) unit(global_norm, level) unit(limit_rows, level) unit(losses, level) \
      unit(normalise, level) unit(row_norms, level) unit(pointwise_losses, level)           \
          unit(watch, level) unit(softmax, level) unit(maxout, level) unit(glu, level)      \
              unit(pools, level) unit(adaptive_pools, level) unit(im2col, level)            \
                  unit(depthwise, level) ONEPASS_FORMULA_UNITS(unit, level)

#define ONEPASS_DECLARE_UNIT(name, level) void onepass_cpu_##name##_##level(onepass::Backend*);
#define ONEPASS_FILL_FROM(name, level) onepass_cpu_##name##_##level(&b);
#define ONEPASS_LEVEL(level)                               \
  extern "C" {                                             \
  ONEPASS_UNITS(ONEPASS_DECLARE_UNIT, level)               \
  void onepass_cpu_streams_##level(onepass::StreamTable*); \
  }                                                        \
  static const onepass::Backend& backend_##level() {       \
    static onepass::host::Tables tables;                   \
    static const onepass::Backend backend = [] {           \
      onepass::Backend b;                                  \
      b.name = #level;                                     \
      tables.lend(&b);                                     \
      ONEPASS_UNITS(ONEPASS_FILL_FROM, level)              \
      return b;                                            \
    }();                                                   \
    return backend;                                        \
  }                                                        \
  static const onepass::StreamTable& streams_##level() {   \
    static const onepass::StreamTable table = [] {         \
      onepass::StreamTable t;                              \
      onepass_cpu_streams_##level(&t);                     \
      return t;                                            \
    }();                                                   \
    return table;                                          \
  }
#ifdef ONEPASS_X86_LEVELS
ONEPASS_LEVEL(v2)
ONEPASS_LEVEL(v3)
ONEPASS_LEVEL(v4)
#elif defined(ONEPASS_NEON_LEVEL)
ONEPASS_LEVEL(neon)
#else
ONEPASS_LEVEL(base)
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
#elif defined(ONEPASS_NEON_LEVEL)
  return {&backend_neon()};
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

const StreamTable& cpu_streams() {
#ifdef ONEPASS_X86_LEVELS
  const Backend* chosen = find(cpu_backend().name);  // null: one for tests
  const std::string level = (chosen ? chosen : supported().back())->name;
  return level == "v2" ? streams_v2() : level == "v3" ? streams_v3() : streams_v4();
#elif defined(ONEPASS_NEON_LEVEL)
  return streams_neon();
#else
  return streams_base();
#endif
}

void set_test_backend(const Backend* backend) {
  current().store(backend ? backend : first_choice(), std::memory_order_release);
}

}  // namespace onepass
