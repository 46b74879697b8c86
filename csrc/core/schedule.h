// Cuts the elements of a list of tensors into pieces, which never cross a tensor, and gathers
// pieces into groups, a thread's unit of work. All groups have one size, about kGroupElements or
// less, and their number is even, so that two threads finish together. Only sizes decide, never the
// number of threads, so reductions over groups give the same bits on any machine.
//
// The caller builds a schedule once and keeps it until sizes change; a plan keeps its own for many
// steps.
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

// The schedule of one tensor, as one piece; its view holds while this lives.
class OnePiece {
 public:
  explicit OnePiece(int64_t size) : piece_{0, 0, size} {}
  OnePiece(const OnePiece&) = delete;
  Schedule view() const { return {&piece_, group_, 1, piece_.size}; }

 private:
  Piece piece_;
  int64_t group_[2] = {0, 1};
};

}  // namespace onepass
