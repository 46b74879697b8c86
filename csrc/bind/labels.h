// Checks class labels of a loss and passes them on to a backend. On the CPU they are checked before
// anything is written. On a device the kernel checks them, and the next call on that device raises
// the error.
#pragma once
#include <vector>

#include "bind/array.h"
#include "bind/target.h"

namespace onepass::bind {

class Labels {
 public:
  // `target`: dense integers, already checked, which must outlive this; on a device they may be
  // replaced by a copy. `ignored` is in range whatever its value.
  Labels(const Target& where, Array* target, int64_t classes, int64_t ignored);

  const int64_t* data() const { return data_; }
  uint32_t* bad_label() const { return bad_label_; }  // null on the CPU

  // On the CPU. Without the GIL: whether all are in range; with it: IndexError for the first.
  bool in_range() const;
  [[noreturn]] void refuse() const;

  // On a device: waits for the call and raises IndexError, where ONEPASS_CUDA_CHECK=1 asks for it.
  void check_now() const;

 private:
  const Target& where_;
  const Array& target_;
  int64_t classes_, ignored_;
  std::vector<int64_t> wide_;
  const int64_t* data_ = nullptr;
  uint32_t* bad_label_ = nullptr;
};

}  // namespace onepass::bind
