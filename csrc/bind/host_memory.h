// Memory of the host that lasts from step to step.
#pragma once
#include <cstdint>
#include <memory>

namespace onepass::bind {

// It grows, and is not initialised.
class HostMemory {
 public:
  void* at_least(int64_t bytes) {
    if (bytes > bytes_) {
      memory_.reset();
      memory_.reset(new double[size_t((bytes + 7) / 8)]);
      bytes_ = bytes;
    }
    return memory_.get();
  }

 private:
  std::unique_ptr<double[]> memory_;
  int64_t bytes_ = 0;
};

}  // namespace onepass::bind
