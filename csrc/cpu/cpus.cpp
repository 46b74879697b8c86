#include "cpus.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace onepass {
namespace {

// A quota is microseconds of processor time in a period.
int cpus_of(double quota, double period) {
  if (!(quota > 0) || !(period > 0)) return 0;
  const double cpus = quota / period;
  constexpr int kMost = std::numeric_limits<int>::max();
  if (cpus >= kMost) return kMost;
  return int(cpus) + (double(int(cpus)) < cpus);
}

// One number of a file; -1, as for no quota, where there is none.
double number_in(const std::string& path) {
  double number = -1;
  std::ifstream(path) >> number;
  return number;
}

// Of one group, in the second version of control groups and in the first.
int unified_quota(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  double quota = -1, period = -1;
  file >> quota >> period;  // "max 100000" without a quota: not a number
  return file ? cpus_of(quota, period) : 0;
}
int first_quota(const std::string& folder) {
  return cpus_of(number_in(folder + "/cpu.cfs_quota_us"), number_in(folder + "/cpu.cfs_period_us"));
}

// The least of a group and those around it, up to the root. Inside a container the path may be that
// of the machine, of which only the root is to be seen.
template <class Quota>
int least_quota(const std::string& root, std::string group, Quota quota) {
  int least = 0;
  for (;;) {
    if (group == "/") group.clear();
    if (const int cpus = quota(root + group); cpus > 0)
      least = least ? std::min(least, cpus) : cpus;
    if (group.empty()) return least;
    const size_t slash = group.rfind('/');
    group.resize(slash == std::string::npos ? 0 : slash);
  }
}

int lesser(int a, int b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

// Whether a list like "cpu,cpuacct" has cpu.
bool has_cpu(const std::string& controllers) {
  return ("," + controllers + ",").find(",cpu,") != std::string::npos;
}

}  // namespace

int quota_cpus(const std::string& process, const std::string& root) {
  int least = 0;
  std::ifstream file(process);
  for (std::string line; std::getline(file, line);) {  // number:controllers:group
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      least = lesser(least, least_quota(root, group, unified_quota));
    } else if (has_cpu(controllers)) {
      for (const std::string& folder : {controllers, std::string("cpu")})
        least = lesser(least, least_quota(root + "/" + folder, group, first_quota));
    }
  }
  return least;
}

int machine_cpus() { return std::max(int(std::thread::hardware_concurrency()), 1); }

int affinity_cpus() {
#ifdef __linux__
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(CPU_COUNT(&allowed), 1);
#endif
  return machine_cpus();
}

int quota_cpus() {
#ifdef __linux__
  return quota_cpus("/proc/self/cgroup", "/sys/fs/cgroup");
#else
  return 0;
#endif
}

int usable_cpus() { return lesser(affinity_cpus(), quota_cpus()); }

}  // namespace onepass
