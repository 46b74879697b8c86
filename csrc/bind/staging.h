// Aligned dense copies of arrays whose elements are not aligned to their size, or that must be
// dense but are not. The border makes no other copies.
#pragma once
#include <vector>

#include "bind/array.h"

namespace onepass::bind {

// load() copies in and turns the Array into its copy; store() copies back those that are written.
// On a device the array's own library makes the copy, and a written array must be dense already.
class Staging {
 public:
  void load(Array* a, bool writes);
  void load_misaligned(Array* a, bool writes) {
    if (misaligned(*a)) load(a, writes);
  }
  void store() {
    if (!copies_.empty()) store_copies();
  }
  static bool misaligned(const View& v);

 private:
  struct Copy {
    View original;
    std::vector<int64_t> dims;   // the copy's shape and strides
    std::vector<double> memory;  // aligned for every element type
    bool writes;
  };
  void store_copies();
  void load_on_device(Array* a, bool writes);
  std::vector<Copy> copies_;
  std::vector<py::object> made_;  // copies that libraries made
};

// Sets every element to zero; CPU only.
void fill_zero(const Array& a);

}  // namespace onepass::bind
