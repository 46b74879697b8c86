// The optimizers' updates: every variant of every rule.
#include "cpu/loops.h"
#include "cpu/unit.h"
#include "kernels/update_list.h"

ONEPASS_BEGIN
namespace {

// Not a lambda, whose operator() would be an exported symbol.
struct AddUpdate {
  Backend* backend;
  int* index;
  template <class R, class V>
  constexpr void operator()(R, V) const {
    backend->update[(*index)++] = &elementwise<V::template Kernel, kGradientOperand>;
  }
};

}  // namespace
ONEPASS_END

ONEPASS_CPU_UNIT(updates) {
  using namespace onepass::ONEPASS_ISA;
  int index = 0;
  for_each_variant(Updates{}, AddUpdate{backend, &index});
}
