#include "core/schedule.h"

namespace onepass {

void ScheduleStorage::build(const Tensor* tensors, int64_t count) {
  pieces_.clear();
  groups_.assign(1, 0);
  elements_ = 0;
  for (int64_t t = 0; t < count; ++t) elements_ += tensors[t].size;
  const int64_t pairs = elements_ / (2 * kGroupElements) + 1;
  const int64_t share = elements_ / (2 * pairs) + 1;  // of a group
  int64_t done = 0, end = 0;  // elements that have a piece; of this group and those before it
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t begin = 0; begin < tensors[t].size;) {
      if (done >= end) {
        if (done > 0) groups_.push_back(int64_t(pieces_.size()));
        end = share * int64_t(groups_.size());
      }
      // Whole blocks, so that a piece that continues a tensor starts at one.
      const int64_t room = (end - done + kBlockElements - 1) / kBlockElements * kBlockElements;
      const int64_t left = tensors[t].size - begin, size = left < room ? left : room;
      pieces_.push_back({t, begin, size});
      begin += size;
      done += size;
    }
  }
  if (!pieces_.empty()) groups_.push_back(int64_t(pieces_.size()));
}

Schedule ScheduleStorage::view() const {
  Schedule schedule;
  schedule.pieces = pieces_.data();
  schedule.groups = groups_.data();
  schedule.group_count = int64_t(groups_.size()) - 1;
  schedule.elements = elements_;
  return schedule;
}

}  // namespace onepass
