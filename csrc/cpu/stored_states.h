// The leaf loop of an update whose states are stored in fewer bits than it computes with: it
// converts them in registers, on the way in and out.
#pragma once
#include "cpu/loops.h"
#include "kernels/rounding.h"

ONEPASS_BEGIN
namespace {

// What the update sees of an element of an operand, and how that is stored.
template <class T>
struct InPlace {
  T& value;
  ONEPASS_HD void store() const {}
};
struct Dithered {
  float value;
  BFloat16* to;
  uint32_t random;
  ONEPASS_HD void store() const { *to = dithered(value, random); }
};
struct NoState {
  Absent value;
  ONEPASS_HD void store() const {}
};

// States of bfloat16, and where their random bits start.
struct DitheredStates {
  BFloat16* at;
  uint32_t salt;
};

template <class T>
ONEPASS_HD InPlace<T> held(T* p, int64_t i, uint32_t) {
  return {p[i]};
}
ONEPASS_HD NoState held(Absent, int64_t, uint32_t) { return {}; }
ONEPASS_HD Dithered held(DitheredStates p, int64_t i, uint32_t weyl) {
  return {math::from_bits(uint32_t(p.at[i].bits) << 16), p.at + i, weyl + p.salt};
}

template <class K, class... H>
ONEPASS_HD void call_held(const K& k, H... h) {
  k(h.value...);
  (h.store(), ...);
}
template <class K, class... P>
[[gnu::noinline]] void leaf_dithered(const K k, int64_t n, uint32_t weyl, P... p) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i, weyl += kWeyl) call_held(k, held(p, i, weyl)...);
}

constexpr int kFirstState = kGradientOperand + 1;
template <class S>
constexpr bool is_state(int o) {
  return o >= kFirstState && o < int(S::arity);
}
template <class S>
ONEPASS_HD bool are_bfloat16(const Operand* operands) {
  bool all = int(S::arity) > kFirstState;
  for (int o = kFirstState; o < int(S::arity); ++o) all = all && operands[o].dtype == DType::bf16;
  return all;
}

// The argument for parameter J of an update whose states are bfloat16.
template <class S, size_t J>
ONEPASS_HD auto dithered_argument(float* const* at, StepStream random) {
  if constexpr (!S::present(J)) {
    return Absent{};
  } else {
    constexpr int o = int(S::operand_of(J));
    if constexpr (is_state<S>(o)) {
      const uint32_t salt = dither_salt(random.parameter, random.step, uint32_t(o - kFirstState));
      return DitheredStates{reinterpret_cast<BFloat16*>(at[o]), salt};
    } else {
      return at[o];
    }
  }
}
// Runs an update over a block, at[o] for operands that are not states.
template <class K, size_t... J>
ONEPASS_HD void run_dithered(const K& k, const Tensor& tensor, int64_t begin, int64_t n,
                             StepStream random, float* const* at, float* scratch,
                             std::index_sequence<J...>) {
  using S = Signature<K>;
  float* all[S::arity];
  for (int o = 0; o < int(S::arity); ++o) {
    all[o] = at[o];
    if (!is_state<S>(o)) continue;
    const Operand& operand = tensor.operands[o];
    if (operand.strides) {
      all[o] = scratch + o * kBlockElements;
      load_block(tensor, operand, begin, n, reinterpret_cast<BFloat16*>(all[o]));
    } else {
      all[o] = reinterpret_cast<float*>(static_cast<BFloat16*>(operand.data) + begin);
    }
  }
  leaf_dithered(k, n, uint32_t(begin) * kWeyl, dithered_argument<S, J>(all, random)...);
  for (int o = kFirstState; o < int(S::arity); ++o)
    if (tensor.operands[o].strides)
      store_block(tensor, tensor.operands[o], begin, n, reinterpret_cast<const BFloat16*>(all[o]));
}
template <class K, size_t... J>
ONEPASS_HD void run_dithered(const K&, const Tensor&, int64_t, int64_t, StepStream, double* const*,
                             double*, std::index_sequence<J...>) {}

}  // namespace
ONEPASS_END
