// Runs a functor over the elements of a tile: loads, riders and stages in registers, stores.
#pragma once
#include "cuda/coded_states.cuh"
#include "cuda/functors.cuh"

ONEPASS_BEGIN
namespace {

// kStaged: stages run around the update, and entries have their operands too.
template <class K, class T, int kGradient, bool kStaged = false>
struct Runner {
  using S = Signature<K>;
  static constexpr int kOwn = int(S::arity), kArity = kOwn + (kStaged ? kStageOperands : 0);
  static constexpr int kFirstState = kGradient + 1, kStates = kOwn - kFirstState;
  static constexpr bool kMayBeCoded = kStaged && sizeof(T) == 4 && kStates > 0;
  using Walk = TileWalk<kArity, kGradient>;
  K k;
  std::conditional_t<kStaged, const Ride<T>&, Ride<T>> ride;
  std::conditional_t<kStaged, const StageTensor<T>*, std::nullptr_t> stages;
  float* block;  // the states of a tile in shared memory, if they are codes; else null

  static ONEPASS_HD constexpr bool reads(int o) { return o >= kOwn || S::reads(size_t(o)); }
  // Whether the tensor has the operand: it may do without those of stages.
  static ONEPASS_DEVICE bool has(const Entry<kArity>& entry, int o) {
    return o < kOwn || entry.data[o];
  }
  ONEPASS_DEVICE bool stores(const Entry<kArity>& entry, int o) const {
    if (o == kGradient) return ride.zero_grad;
    if (o >= kOwn) return has(entry, o) && !ride.skip;
    return S::writes(size_t(o)) && !ride.skip;
  }

  // Whether an operand is in `block`, and its element there.
  ONEPASS_DEVICE bool in_block(int o) const {
    if constexpr (kMayBeCoded) {
      return block && o >= kFirstState && o < kOwn;
    } else {
      return false;
    }
  }
  ONEPASS_DEVICE float* in_block(int o, int64_t at) const {
    return block + (o - kFirstState) * int(kCodeBlock) + int(at % kCodeBlock);
  }

  // The argument for parameter J of the functor, from v[operand], the values of one element.
  template <size_t J>
  static ONEPASS_DEVICE decltype(auto) value(T* v) {
    if constexpr (S::present(J)) {
      return (v[S::operand_of(J)]);
    } else {
      return Absent{};
    }
  }
  template <size_t... I>
  ONEPASS_DEVICE void apply(T* v, bool kept, std::index_sequence<I...>) const {
    if constexpr (S::draws) {
      v[0] = k(v[I + 1]..., Keep::of(kept, 0));
    } else if constexpr (S::returns) {
      v[0] = k(v[I + 1]...);
    } else if constexpr (kGradient >= 0) {
      Ridden<K, T, false>{k, ride.prepare}(value<I>(v)...);
      if (ride.zero_grad) v[kGradient] = T(0);
    } else {
      k(v[I]...);
    }
  }
  template <size_t... I>
  ONEPASS_DEVICE void update_staged(T* v, std::index_sequence<I...>) const {
    const T gradient = v[kGradient];
    const T before = v[0] = start_of(*stages, v[0], v[kOwn + kMaster]);
    k(value<I>(v)...);
    v[0] = after_update(*stages, before, v[0], gradient);
  }
  // Of W neighbours: v[operand][w].
  template <int W>
  ONEPASS_DEVICE void apply_staged(const Entry<kArity>& entry, int64_t at,
                                   T (&v)[kArity][W]) const {
    T* gradient = v[kGradient];
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) gradient[w] = ride.prepare(gradient[w]);
    add_noise<W>(*stages, at, gradient);
    each<W>(entry, v,
            [&](T* one, int) { update_staged(one, std::make_index_sequence<S::named>{}); });
    round_and_average<W>(*stages, at, v[0], v[kOwn + kMaster], v[kOwn + kAverage]);
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) gradient[w] = T(0);  // stored if gradients are zeroed
    if constexpr (sizeof(T) == 4) {
      if (!stages->dithers) return;
      ONEPASS_UNROLL
      for (int o = kFirstState; o < kOwn; ++o) {
        ONEPASS_UNROLL
        for (int w = 0; w < W; ++w)
          v[o][w] = to_float(
              dithered(v[o][w], uint32_t(at + w) * kWeyl + stages->salts[o - kFirstState]));
      }
    }
  }
  // f(values of an element, w) for each of W neighbours.
  template <int W, class F>
  ONEPASS_DEVICE void each(const Entry<kArity>& entry, T (&v)[kArity][W], F f) const {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) {
      T one[kArity];
      ONEPASS_UNROLL
      for (int o = 0; o < kArity; ++o) one[o] = reads(o) && has(entry, o) ? v[o][w] : T(0);
      f(one, w);
      ONEPASS_UNROLL
      for (int o = 0; o < kArity; ++o) v[o][w] = one[o];
    }
  }
  template <int W>
  ONEPASS_DEVICE void apply_each(const Entry<kArity>& entry, int64_t at, uint32_t kept,
                                 T (&v)[kArity][W]) const {
    if constexpr (kStaged) {
      apply_staged<W>(entry, at, v);
    } else {
      each<W>(entry, v, [&](T* one, int w) {
        apply(one, kept >> w & 1, std::make_index_sequence<S::named>{});
      });
    }
  }

  ONEPASS_DEVICE void element(const Entry<kArity>& entry, int64_t at, const int64_t* offset,
                              bool kept) const {
    T v[kArity][1];
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o) {
      if (in_block(o)) {
        v[o][0] = T(*in_block(o, at));
      } else if (reads(o) && has(entry, o)) {
        v[o][0] = load_element<T>(entry.operand(o), offset[o]);
      }
    }
    apply_each<1>(entry, at, kept, v);
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o) {
      if (!stores(entry, o)) continue;
      if (in_block(o)) {
        *in_block(o, at) = float(v[o][0]);
      } else {
        store_element<T>(entry.operand(o), offset[o], v[o][0]);
      }
    }
  }

  // A tile of units; loads of the next units are under way while one is computed, and those of the
  // first while draw() makes the words of the tile's keep bits. Leaves out the elements of
  // incomplete units at the ends of the tensor.
  template <int W, int kSteps, class Draw>
  ONEPASS_DEVICE void units(const Entry<kArity>& entry, int64_t begin, Draw draw) const {
    const int first = lane_of(threadIdx.x) * W;  // in the tile
    Raw next[kArity];
    fetch_unit<W>(entry, begin + first, next);
    const uint32_t word = draw();
    ONEPASS_NO_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      const int in_tile = step * kWarpSize * W + first;
      const int64_t at = begin + in_tile;
      Raw raw[kArity];
      ONEPASS_UNROLL
      for (int o = 0; o < kArity; ++o) raw[o] = next[o];
      if (step + 1 < kSteps) fetch_unit<W>(entry, at + kWarpSize * W, next);
      uint32_t kept = 0;
      if constexpr (S::draws) kept = warp_shuffle(kFullWarp, word, in_tile / 32) >> (in_tile % 32);
      if (is_whole<W>(entry, at)) unit<W>(entry, at, raw, kept);
    }
  }
  template <int W, class Draw>
  ONEPASS_DEVICE void units(const Entry<kArity>& entry, int64_t begin, int tile, Draw draw) const {
    constexpr int kStep = kWarpSize * W;
    if (S::draws || tile == int(kTile)) return units<W, int(kTile) / kStep>(entry, begin, draw);
    units<W, int(kSmallTile) / kStep>(entry, begin, draw);
  }
  template <int W>
  static ONEPASS_DEVICE bool is_whole(const Entry<kArity>& entry, int64_t at) {
    return at >= 0 && at + W <= entry.size;
  }
  template <int W>
  ONEPASS_DEVICE void fetch_unit(const Entry<kArity>& entry, int64_t at, Raw* raw) const {
    if (!is_whole<W>(entry, at)) return;
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      if (reads(o) && has(entry, o) && !in_block(o)) raw[o] = fetch<W, T>(entry.operand(o), at);
  }
  template <int W>
  ONEPASS_DEVICE void unit(const Entry<kArity>& entry, int64_t at, const Raw* raw,
                           uint32_t kept) const {
    T v[kArity][W];
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o) {
      if (in_block(o)) {
        ONEPASS_UNROLL
        for (int w = 0; w < W; ++w) v[o][w] = T(in_block(o, at)[w]);
      } else if (reads(o) && has(entry, o)) {
        decode<W, T>(raw[o], entry.dtype(o), v[o]);
      }
    }
    apply_each<W>(entry, at, kept, v);
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o) {
      if (!stores(entry, o)) continue;
      if (in_block(o)) {
        ONEPASS_UNROLL
        for (int w = 0; w < W; ++w) in_block(o, at)[w] = float(v[o][w]);
      } else {
        store_unit<W, T>(entry.operand(o), at, v[o]);
      }
    }
  }

  // Elements [from, to) of the tile at `begin`, neighbours by neighbouring lanes.
  template <bool kStrided>
  ONEPASS_DEVICE void elements(const Entry<kArity>& entry, const unsigned char* table,
                               int64_t begin, Range range, uint32_t word) const {
    ONEPASS_NO_UNROLL
    for (int64_t base = range.from; base < range.to; base += kWarpSize) {
      const int64_t at = base + lane_of(threadIdx.x);
      bool kept = false;
      if constexpr (S::draws) {
        const int in_tile = int(at - begin) % int(kTile);
        kept = warp_shuffle(kFullWarp, word, in_tile / 32) >> (in_tile % 32) & 1;
      }
      if (at >= range.to) continue;
      int64_t offset[kArity];
      offsets_of<kStrided>(entry, table, at, offset);
      element(entry, at, offset, kept);
    }
  }
};

}  // namespace
ONEPASS_END
