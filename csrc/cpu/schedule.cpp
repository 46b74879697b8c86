#include "cpu/schedule.h"

namespace onepass {

void ScheduleStorage::build(const Tensor* tensors, int64_t count) {
  pieces_.clear();
  groups_.assign(1, 0);
  elements_ = 0;
  int64_t filled = 0;
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t begin = 0; begin < tensors[t].size;) {
      const int64_t left = tensors[t].size - begin;
      // Round up to whole blocks, so that a piece that continues a tensor starts at one.
      const int64_t room =
          (kGroupElements - filled + kBlockElements - 1) / kBlockElements * kBlockElements;
      const int64_t size = left < room ? left : room;
      pieces_.push_back({t, begin, size});
      begin += size;
      filled += size;
      if (filled >= kGroupElements) {
        groups_.push_back(int64_t(pieces_.size()));
        filled = 0;
      }
    }
    elements_ += tensors[t].size;
  }
  if (groups_.back() != int64_t(pieces_.size())) groups_.push_back(int64_t(pieces_.size()));
}

Schedule ScheduleStorage::view() const {
  return {pieces_.data(), groups_.data(), int64_t(groups_.size()) - 1, elements_};
}

}  // namespace onepass
