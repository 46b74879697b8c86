// Fills Backend::activation, ::activation_backward and ::activation_backward_y for the activations
// whose headers are included. Include the backend's driver, which defines elementwise(), first.
#pragma once
#include "kernels/activation.h"
#include "kernels/activation_list.h"

ONEPASS_BEGIN
namespace {

// An activation as an argument.
template <template <class> class A>
struct ActivationTag {
  template <class T>
  using Of = A<T>;
};
template <template <class> class A, class F>
void call_if_defined(F f, int index) {
  if constexpr (is_defined<A<float>>) f(ActivationTag<A>{}, index);
}
// f(tag, index) for each activation whose header is included here.
template <class F, template <class> class... A>
void for_each_defined(List<A...>, F f) {
  int index = 0;
  (call_if_defined<A>(f, index++), ...);
}

template <template <class> class A>
void add_activation(Backend* backend, int index) {
  backend->activation[index] = &elementwise<Forward<A>::template Kernel, kNoGradient>;
  backend->activation_backward[index] = &elementwise<Backward<A>::template Kernel, kNoGradient>;
  if constexpr (has_backward_y<A<float>>)
    backend->activation_backward_y[index] =
        &elementwise<BackwardY<A>::template Kernel, kNoGradient>;
}
void add_activations(Backend* backend) {
  for_each_defined(Activations{}, [=](auto tag, int index) {
    add_activation<decltype(tag)::template Of>(backend, index);
  });
}

}  // namespace
ONEPASS_END
