// Cuts the elements of a list of tensors into pieces, which never cross a tensor, and gathers
// pieces into groups, a thread's unit of work: all of one size, at most about kGroupElements, and
// an even number of them, so that two threads end together. Sizes alone decide, never the number of
// threads, so that reductions over groups give the same bits on any machine.
//
// The caller builds a schedule and keeps it while the sizes stay: a plan does so over many steps.
#pragma once
#include <vector>

#include "core/backend.h"

namespace onepass {

class ScheduleStorage {
 public:
  void build(const Tensor* tensors, int64_t count);
  Schedule view() const;

 private:
  std::vector<Piece> pieces_;
  std::vector<int64_t> groups_;
  int64_t elements_ = 0;
};

}  // namespace onepass
