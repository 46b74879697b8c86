// Compiled once per instruction-set level (CMakeLists.txt): every driver, instantiated for every
// kernel of kernels/list.h. The rules of this file and of all it includes are in cpu/README.md.
#include "core/backend.h"

#include "cpu/loops.h"
#include "cpu/mask.h"
#include "cpu/normalise.h"
#include "cpu/reduce.h"
#include "cpu/rows.h"
#include "kernels/list.h"

#define ONEPASS_JOIN(a, b) a##b
#define ONEPASS_NAME(prefix, level) ONEPASS_JOIN(prefix, level)
#define ONEPASS_TEXT(x) #x
#define ONEPASS_STRING(x) ONEPASS_TEXT(x)

ONEPASS_BEGIN
namespace {

// A lambda would be a class of this function's, and its operator() a symbol.
struct AddUpdate {
  Backend* backend;
  int* index;
  template <class R, class V>
  constexpr void operator()(R, V) const {
    backend->update[(*index)++] = &elementwise<V::template Kernel, kGradientOperand>;
  }
};

template <template <class> class... A>
constexpr Backend make_backend(List<A...>) {
  Backend backend{ONEPASS_STRING(ONEPASS_ISA),
                  {&elementwise<Forward<A>::template Kernel, kNoGradient>...},
                  {&elementwise<Backward<A>::template Kernel, kNoGradient>...},
                  {},
                  &elementwise<Dropout, kNoGradient>,
                  &norm,
                  &bias_act,
                  &bias_act_backward,
                  &batch_norm,
                  &batch_norm_backward,
                  &cross_entropy};
  backend.dropout_mask = &dropout_mask;
  int index = 0;
  for_each_variant(Updates{}, AddUpdate{&backend, &index});
  return backend;
}

constexpr Backend kBackend = make_backend(Activations{});

}  // namespace
ONEPASS_END

extern "C" const onepass::Backend* ONEPASS_NAME(onepass_cpu_backend_, ONEPASS_ISA)() {
  return &onepass::ONEPASS_ISA::kBackend;
}
