// An update whose states are stored in fewer bits than it computes with. bfloat16 states are
// converted in the registers of the leaf loop; 8-bit states block by block (core/codes.h), because
// all elements of a block share its scale.
#pragma once
#include "cpu/code_blocks.h"
#include "cpu/loops.h"
#include "kernels/stages.h"

ONEPASS_BEGIN
namespace {

// How an update sees an element of an operand, and how it is stored.
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

// How the states of a tensor are stored. Where they differ from each other they are converted block
// by block, as any operand is.
enum class Stored { whole, dithered, coded };

// The states of a tensor, and the update over them: the one place that knows how they are stored.
template <class K, class T>
class StoredStates {
  using S = Signature<K>;
  static constexpr int kOwn = int(S::arity), kStates = kOwn - kFirstState;
  static constexpr bool kMayBeNarrow = sizeof(T) == 4 && kStates > 0;
  static constexpr auto kNamed = std::make_index_sequence<S::named>{};

 public:
  // `dither`: kDither of the tensor's row.
  ONEPASS_HD StoredStates(const Tensor& tensor, bool dither, StepStream random) : tensor_(tensor) {
    int narrow = 0, coded = 0;
    for (int o = kFirstState; o < kOwn; ++o) {
      narrow += tensor.operands[o].dtype == DType::bf16;
      coded += is_coded(tensor.operands[o].dtype);
      salts_[o] = state_salt(random, o);
    }
    if (!kMayBeNarrow) return;
    if (dither && narrow == kStates) stored_ = Stored::dithered;
    if (coded < kStates) return;
    stored_ = Stored::coded;
    for (int o = kFirstState; o < kOwn; ++o) fill_dither(salts_[o], &dithers_[o]);
  }
  // Whether `run` reads and writes operand o, which nobody else does.
  ONEPASS_HD bool owns(int o) const {
    return stored_ != Stored::whole && o >= kFirstState && o < kOwn;
  }
  // Updates elements [begin, begin + n) of a block, at[o] for operands that are not its own.
  ONEPASS_HD void run(const K& k, int64_t begin, int64_t n, T* const* at) const {
    if constexpr (kMayBeNarrow) {
      if (stored_ == Stored::dithered) return run_dithered(k, begin, n, at, kNamed);
      if (stored_ == Stored::coded) return run_coded(k, begin, n, at, kNamed);
    }
    run_whole(k, n, at, kNamed);
  }

 private:
  template <size_t... J>
  ONEPASS_HD void run_whole(const K& k, int64_t n, T* const* at, std::index_sequence<J...>) const {
    leaf<K, T>(k, n, argument<S, J>(at)...);
  }

  template <size_t J>
  ONEPASS_HD auto dithered_argument(T* const* at, BFloat16* const* states) const {
    if constexpr (!S::present(J)) {
      return Absent{};
    } else if constexpr (int(S::operand_of(J)) < kFirstState) {
      return at[S::operand_of(J)];
    } else {
      return DitheredStates{states[S::operand_of(J)], salts_[S::operand_of(J)]};
    }
  }
  template <size_t... J>
  ONEPASS_HD void run_dithered(const K& k, int64_t begin, int64_t n, T* const* at,
                               std::index_sequence<J...>) const {
    alignas(64) BFloat16 scratch[kOwn][kBlockElements];
    BFloat16* states[kOwn];
    for (int o = kFirstState; o < kOwn; ++o) {
      const Operand& operand = tensor_.operands[o];
      states[o] = operand.strides ? scratch[o] : static_cast<BFloat16*>(operand.data) + begin;
      if (operand.strides) load_block(tensor_, operand, begin, n, scratch[o]);
    }
    leaf_dithered(k, n, uint32_t(begin) * kWeyl, dithered_argument<J>(at, states)...);
    for (int o = kFirstState; o < kOwn; ++o)
      if (tensor_.operands[o].strides)
        store_block(tensor_, tensor_.operands[o], begin, n, scratch[o]);
  }

  template <size_t... J>
  ONEPASS_HD void run_coded(const K& k, int64_t begin, int64_t n, T* const* at,
                            std::index_sequence<J...> named) const {
    alignas(64) float states[kStates][kCodeBlock];
    for (int64_t done = 0; done < n; done += kCodeBlock) {
      const int64_t left = n - done, size = left < kCodeBlock ? left : kCodeBlock;
      const int64_t first = begin + done;
      T* block[kOwn];
      for (int o = 0; o < kFirstState; ++o) block[o] = at[o] + done;
      for (int o = kFirstState; o < kOwn; ++o) {
        block[o] = states[o - kFirstState];
        load_codes(codes(o) + first, *scale(o, first), is_signed(o), size, block[o]);
      }
      run_whole(k, size, block, named);
      for (int o = kFirstState; o < kOwn; ++o)
        store_codes(block[o], is_signed(o), dithers_[o], size, codes(o) + first, scale(o, first));
    }
  }
  ONEPASS_HD bool is_signed(int o) const { return tensor_.operands[o].dtype == kSignedCodes; }
  ONEPASS_HD uint8_t* codes(int o) const { return static_cast<uint8_t*>(tensor_.operands[o].data); }
  ONEPASS_HD float* scale(int o, int64_t element) const {
    return reinterpret_cast<float*>(codes(o) + scales_at(tensor_.size)) + element / kCodeBlock;
  }

  const Tensor& tensor_;
  Stored stored_ = Stored::whole;
  uint32_t salts_[kOwn];
  CodeDither dithers_[kOwn];
};

}  // namespace
ONEPASS_END
