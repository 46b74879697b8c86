// What a plan keeps on a CUDA device, in memory of the parameters' library: how many steps each
// parameter has taken, which only the device knows where steps may be skipped, and the tickets of
// the launches.
#pragma once
#include <vector>

#include "bind/target.h"

namespace onepass::bind {

class DeviceSteps {
 public:
  explicit operator bool() const { return bool(memory_); }
  // No steps yet.
  void create(const Target& target, size_t parameters);
  // Where the steps are taken from now on.
  void follow(const Target& target) { target_ = target; }

  int64_t* counts() const { return static_cast<int64_t*>(pointer_of(memory_)); }
  uint32_t* tickets() const { return reinterpret_cast<uint32_t*>(counts() + parameters_); }

  // Both wait for the device.
  std::vector<int64_t> read() const;
  void write(const std::vector<int64_t>& values);

 private:
  size_t parameters_ = 0;
  py::object memory_;  // int64: a count for each parameter, then two tickets of 32 bits
  Target target_{};
};

}  // namespace onepass::bind
