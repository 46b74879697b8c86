#include "bind/kernel_info.h"

#include <stdexcept>

#include "kernels/activation_list.h"
#include "kernels/dropout.h"
#include "kernels/loss_list.h"
#include "kernels/update_list.h"

namespace onepass::bind {
namespace {

using namespace onepass::host;

template <size_t N>
std::vector<const char*> list_of(const Names<N>& names) {
  return std::vector<const char*>(names.at, names.at + N);
}

// How the first `count` operands are accessed.
template <class F>
std::vector<Access> accesses_of(size_t count = Signature<F>::arity) {
  const auto accesses = Signature<F>::accesses();
  return {accesses.at, accesses.at + count};
}

// F is the functor whose signature counts; the options are K's.
template <class F, class K>
KernelInfo describe(const char* kind, int index) {
  static_assert(Signature<F>::arity == decltype(F::operands)::size, "one name per operand");
  return {K::name, kind, list_of(F::operands), list_of(K::hyper), accesses_of<F>(), index};
}

template <template <class, class> class Form, template <class> class... A>
std::vector<KernelInfo> describe_activations(const char* kind, List<A...>) {
  int index = 0;
  return {describe<Form<A<float>, float>, A<float>>(kind, index++)...};
}
template <template <class> class... A>
std::vector<KernelInfo> describe_backward_ys(List<A...>) {
  std::vector<KernelInfo> all;
  int index = 0;
  const auto add = [&](auto a) {
    using K = decltype(a);
    if constexpr (has_backward_y<K>)
      all.push_back(describe<ActivationBackwardY<K, float>, K>("activation_backward_y", index));
    ++index;
  };
  (add(A<float>{}), ...);
  return all;
}
std::vector<RuleInfo> describe_rules() {
  std::vector<RuleInfo> all;
  int32_t index = -1;
  for_each_variant(Updates{}, [&](auto rule, auto variant) {
    using R = decltype(rule);
    using V = decltype(variant);
    using F = typename V::template Kernel<float>;
    const auto optional = list_of(R::optional);
    const auto factors = list_of(R::factors);
    std::vector<const char*> operands = list_of(R::operands);
    operands.insert(operands.end(), factors.begin(), factors.end());
    // Values of rows and columns are few beside those of elements.
    const size_t own = Signature<F>::arity - (factors.empty() ? 0 : 2);
    static_assert(R::factors.size == 0 || R::optional.size == 0, "one or the other");
    if (V::on == 0) {
      ++index;
      std::vector<const char*> states(operands.begin() + kFirstState, operands.end());
      states.insert(states.end(), optional.begin(), optional.end());
      RuleInfo info{};
      info.name = R::name;
      info.states = states;
      info.optional = optional;
      info.hyper = list_of(R::hyper);
      info.counts_steps = kCountsSteps<R>;
      info.scalars = list_of(R::scalars);
      info.starts.assign(R::starts, R::starts + R::scalars.size);
      info.norms = list_of(R::norms);
      info.factors = factors;
      info.advance = [](double* row) { advance<R>(row); };
      info.advances_first = R::advances_first;
      all.push_back(std::move(info));
    }
    for (size_t i = 0; i < optional.size(); ++i)
      if (V::on >> i & 1) operands.push_back(optional[i]);
    if (operands.size() != own + factors.size()) throw std::logic_error("one name per operand");
    KernelInfo info{R::name, "update",      operands, list_of(R::hyper), accesses_of<F>(own),
                    index,   int32_t(V::on)};
    if constexpr (R::norms.size > 0) {
      const auto before = accesses_of<typename V::template Measure<float>>(own);
      info.accesses.insert(info.accesses.end(), before.begin(), before.end());
    }
    if (!factors.empty()) info.accesses.push_back(Access::read);
    all.back().variants.push_back(std::move(info));
  });
  return all;
}

template <class L>
LossInfo describe_loss(int index) {
  LossInfo info{};
  info.name = L::name;
  info.kind = "loss";
  info.operands = {"out", "input", "target"};
  info.hyper = list_of(L::hyper);
  info.accesses = {Access::write, Access::read, Access::read};
  info.index = index;
  if constexpr (L::hyper.size > 0) info.ranges = {std::begin(L::ranges), std::end(L::ranges)};
  info.has_pos_weight = kHasPosWeight<L>;
  info.has_batch_mean = kHasBatchMean<L>;
  return info;
}
template <template <class> class... L>
std::vector<LossInfo> describe_losses(List<L...>) {
  int index = 0;
  return {describe_loss<L<float>>(index++)...};
}

}  // namespace

const std::vector<LossInfo>& losses() {
  static const auto all = describe_losses(Losses{});
  return all;
}
const std::vector<KernelInfo>& activations() {
  static const auto all = describe_activations<ActivationForward>("activation", Activations{});
  return all;
}
const std::vector<KernelInfo>& activation_backwards() {
  static const auto all =
      describe_activations<ActivationBackward>("activation_backward", Activations{});
  return all;
}
const std::vector<KernelInfo>& activation_backward_ys() {
  static const auto all = describe_backward_ys(Activations{});
  return all;
}
const std::vector<RuleInfo>& rules() {
  static const auto all = describe_rules();
  return all;
}
const KernelInfo& dropout_info() {
  static const KernelInfo info = describe<Dropout<float>, Dropout<float>>("dropout", 0);
  return info;
}

}  // namespace onepass::bind
