// Every update that was compiled.
#pragma once
#include "backend_test.h"
#include "kernels/update_list.h"

namespace backend_test {

// f(index, variant) for every variant of every rule that was compiled: the tables have null in
// place of others (updates.cu). A variant's tables are at [index][variant.on].
template <class F>
void for_updates(F f) {
  int index = -1;
  onepass::cuda::for_each_variant(onepass::cuda::Updates{}, [&](auto, auto variant) {
    index += variant.on == 0;
    if (cuda.update[index]) f(index, variant);
  });
}
template <class Variant>
using KernelOf = typename Variant::template Kernel<float>;

}  // namespace backend_test
