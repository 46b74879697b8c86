// How many processors this process may use.
// Compiled into every instruction set: plain declarations only.
#pragma once
#include <string>

namespace onepass {

// Those in the affinity mask of the calling thread, but no more than the quota allows. At least 1.
int usable_cpus();

// Those of the machine, and those in the affinity mask of the calling thread.
int machine_cpus();
int affinity_cpus();

// What the quotas of control groups allow, rounded up: containers are limited by them, and their
// affinity mask still has all processors of the machine. 0: no quota.
// `process` is /proc/self/cgroup, `root` /sys/fs/cgroup, or copies of them.
int quota_cpus(const std::string& process, const std::string& root);
int quota_cpus();  // of this process

}  // namespace onepass
