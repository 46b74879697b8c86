// Compiles every variant of the optimizers whose rule is included before it (formula.cpp.in), and
// adds them to the table.
#include "cpu/loops.h"
#include "cpu/unit.h"
#include "kernels/update_list.h"

ONEPASS_BEGIN
namespace {

template <class R, size_t... kOn>
void add_variants(Backend* backend, int index, std::index_sequence<kOn...>) {
  ((backend->update[index][kOn] = &elementwise<Variant<R, kOn>::template Kernel, kGradientOperand>),
   ...);
}
template <class R>
void add_update(Backend* backend, int index) {
  if constexpr (is_defined<R>)
    add_variants<R>(backend, index, std::make_index_sequence<kVariants<R>>{});
}
template <class... R>
void add_updates(Backend* backend, Rules<R...>) {
  int index = 0;
  (add_update<R>(backend, index++), ...);
}

}  // namespace
ONEPASS_END

ONEPASS_CPU_UNIT(ONEPASS_FORMULA) {
  using namespace onepass::ONEPASS_ISA;
  add_updates(backend, Updates{});
}
