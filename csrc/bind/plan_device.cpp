#include "bind/plan_device.h"

namespace onepass::bind {

void DeviceSteps::create(const Target& target, size_t parameters) {
  memory_ = lend(target, int64_t(parameters) + 1, "int64", true);
  parameters_ = parameters;
  target_ = target;
}

std::vector<int64_t> DeviceSteps::read() const {
  const py::object host = read_back(target_, memory_);
  std::vector<int64_t> values;
  for (size_t i = 0; i < parameters_; ++i) values.push_back(py::cast<int64_t>(host[py::int_(i)]));
  return values;
}

void DeviceSteps::write(const std::vector<int64_t>& values) {
  py::list all;
  for (const int64_t value : values) all.append(value);
  overwrite(target_, memory_, all);
}

}  // namespace onepass::bind
