// Parameters out of the buffer in which they lie one after the other. Slices would do, but XLA
// compiles a loop for each of them, which takes 25 ms.
#include <cstring>
#include <vector>

#include "jax/frame.h"

namespace onepass::jax {
namespace {

struct Copy {
  void* to;
  const char* from;
  size_t bytes;
};

void copy(void* copies, int64_t i) {
  const Copy& c = static_cast<const Copy*>(copies)[i];
  if (c.bytes > 0) std::memcpy(c.to, c.from, c.bytes);
}

}  // namespace

void unflatten(const Frame& f) {
  const Buffer flat = f.argument(0);
  const char* from = flat.as<const char>();
  int64_t left = flat.size();
  std::vector<Copy> copies;
  for (int64_t i = 0; i < f.results() && left >= 0; ++i) {
    const Buffer to = f.result(i);
    if (to.type != flat.type) throw Refused("the buffer has another dtype than a leaf");
    const size_t bytes = size_t(to.size() * size_of(dtype_of(to)));
    copies.push_back({to.data, from, bytes});
    left -= to.size();
    if (left >= 0) from += bytes;
  }
  if (left != 0)
    throw Refused("the buffer has " + std::to_string(flat.size()) +
                  " elements, expected those of all leaves");
  lent().parallel_for(int64_t(copies.size()), &copy, copies.data());
}

}  // namespace onepass::jax
