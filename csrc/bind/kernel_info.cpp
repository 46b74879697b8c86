#include "bind/kernel_info.h"

namespace onepass::bind {
namespace {

using namespace onepass::host;

template <size_t N>
std::vector<const char*> list_of(const Names<N>& names) {
  return std::vector<const char*>(names.at, names.at + N);
}

// F is the functor whose signature counts; the options are K's.
template <class F, class K>
KernelInfo describe(const char* kind, int index) {
  static_assert(Signature<F>::arity == decltype(F::operands)::size, "one name per operand");
  KernelInfo info{K::name, kind, list_of(F::operands), list_of(K::hyper), {}, index};
  const auto accesses = Signature<F>::accesses();
  info.accesses.assign(accesses.at, accesses.at + Signature<F>::arity);
  return info;
}

template <template <class, class> class Form, template <class> class... A>
std::vector<KernelInfo> describe_activations(const char* kind, List<A...>) {
  int index = 0;
  return {describe<Form<A<float>, float>, A<float>>(kind, index++)...};
}
template <template <class> class... U>
std::vector<KernelInfo> describe_updates(List<U...>) {
  int index = 0;
  return {describe<U<float>, U<float>>("update", index++)...};
}

}  // namespace

const std::vector<KernelInfo>& activations() {
  static const auto all = describe_activations<ActivationForward>("activation", Activations{});
  return all;
}
const std::vector<KernelInfo>& activation_backwards() {
  static const auto all =
      describe_activations<ActivationBackward>("activation_backward", Activations{});
  return all;
}
const std::vector<KernelInfo>& updates() {
  static const auto all = describe_updates(Updates{});
  return all;
}
const KernelInfo& dropout_info() {
  static const KernelInfo info = describe<Dropout<float>, Dropout<float>>("dropout", 0);
  return info;
}

const KernelInfo* find(const std::vector<KernelInfo>& kernels, std::string_view name) {
  for (const KernelInfo& info : kernels)
    if (name == info.name) return &info;
  return nullptr;
}

std::string names_of(const std::vector<KernelInfo>& kernels) {
  std::string text;
  for (const KernelInfo& info : kernels)
    text += (text.empty() ? "" : ", ") + std::string(info.name);
  return text;
}

}  // namespace onepass::bind
