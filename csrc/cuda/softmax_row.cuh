// A row of float32 or 16-bit logits, shared by a warp or a block: maximum and sum of exponentials
// in one sweep, and the walk of the second one, which finds what a block has kept of the first.
// Whatever the row's first address, all but its ends move in units.
#pragma once
#include "cuda/kept_units.cuh"
#include "cuda/launch.cuh"
#include "cuda/row_walk.cuh"

ONEPASS_BEGIN
namespace {
namespace rows {

// Blocks as large as their rows: what all of them have at once and do not keep is in the
// second-level cache.
constexpr int64_t kWidestRow = 128 << 10;                  // bytes
constexpr int64_t kWideBlocks = 264, kWidestBlocks = 132;  // two and one for each of an H200's

// exp(x - m). A loss on a GPU need not have the CPU's bits, so the device's own instruction takes
// the place of the polynomial of core/exp.h (docs/findings.md). kNarrow: what follows is rounded
// to 16 bits, so the error of the product with log2(e) may stay; otherwise it is added again, for
// an error of three units in the last place.
template <bool kNarrow>
ONEPASS_DEVICE float exp_below(float x, float m) {
  using F = math::Format<float>;
  constexpr float kLog2eLow = 0x1.4ae0cp-26f;  // log2(e) - kLog2e
  float d = x - m;
  if constexpr (kNarrow) return exp2_approximate(d * F::kLog2e);
  d = d < -200.0f ? -200.0f : d;  // -Inf - -Inf below would be NaN
  const float t = d * F::kLog2e, y = exp2_approximate(t);
  const float lost = math::muladd(d, kLog2eLow, math::muladd(d, F::kLog2e, -t));
  return math::muladd(y, lost * F::kLn2Hi, y);
}

// The largest of some logits, and Σ exp(x - largest).
template <bool kNarrow>
struct SoftmaxSum {
  static constexpr float kNothing = -__builtin_huge_valf();
  float largest = kNothing, sum = 0;

  // A thread may have met nothing but -Inf, and -Inf - -Inf is not a number. In a row of nothing
  // else it comes back with the gradient and the label's logit.
  ONEPASS_DEVICE float base() const { return largest == kNothing ? 0.0f : largest; }
  ONEPASS_DEVICE void raise(float to) {
    if (!(to > largest)) return;
    sum *= exp_below<kNarrow>(largest, to);
    largest = to;
  }
  template <int W>
  ONEPASS_DEVICE void add(const float* x) {
    float m = x[0];
    ONEPASS_UNROLL
    for (int w = 1; w < W; ++w) m = Larger{}(m, x[w]);
    raise(m);
    const float from = base();
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) sum += exp_below<kNarrow>(x[w], from);
  }
  // Over the group that shares the row, in a fixed order.
  template <int kGroup>
  ONEPASS_DEVICE void fold_over() {
    const float m = fold<kGroup>(largest, Larger{});
    raise(m);
    sum = fold<kGroup>(sum, Plus{});
  }
};

enum class Sweep { kFirst, kSecond };  // which keeps, and which finds

// How many units of each of a row's `arrays`, of so many bytes, a block keeps where `together`
// blocks share a processor; lets the kernel have the memory.
template <int kBlock, class Kernel>
int32_t keep_units(Kernel kernel, int64_t bytes, int arrays, int together) {
  const int64_t room = int64_t(this_device().most_shared_bytes) / together - (2 << 10);
  const int64_t each = ceil_div(ceil_div(bytes, 16), kBlock);
  const int64_t units = smaller(each, room / KeptUnits<kBlock>::bytes(1, arrays));
  if (units <= 0 || !allows_shared(kernel, KeptUnits<kBlock>::bytes(units, arrays))) return 0;
  return int32_t(units);
}

template <int W, int kGroup>
struct FlatRow {
  int64_t begin, classes;
  int lane;
  int64_t head, units;  // elements before the first unit, and units

  ONEPASS_DEVICE FlatRow(int64_t first, int64_t count, int thread)
      : begin(first), classes(count), lane(thread) {
    head = smaller((W - begin % W) % W, classes);
    units = (classes - head) / W;
  }
  // The first element of a unit.
  ONEPASS_DEVICE int64_t at(int64_t unit) const { return begin + head + unit * W; }
  // Whether the thread has a unit j.
  ONEPASS_DEVICE bool has(int j) const { return lane + j * kGroup < units; }
  // f(element, x[W]) for the thread's units; kTogether are loaded at once.
  template <int kTogether, Sweep kSweep, class Kept, class F>
  ONEPASS_DEVICE void each_unit(Memory in, const Kept& kept, F f) const {
    each_of<kTogether, kSweep, 1>(&in, kept, [&](int64_t at, const float(*x)[W]) { f(at, x[0]); });
  }
  // f(element, a[W], b[W]) likewise, of two arrays.
  template <int kTogether, Sweep kSweep, class Kept, class F>
  ONEPASS_DEVICE void each_pair(Memory a, Memory b, const Kept& kept, F f) const {
    const Memory both[] = {a, b};
    each_of<kTogether, kSweep, 2>(both, kept,
                                  [&](int64_t at, const float(*x)[W]) { f(at, x[0], x[1]); });
  }
  template <int kTogether, Sweep kSweep, int kArrays, class Kept, class F>
  ONEPASS_DEVICE void each_of(const Memory* in, const Kept& kept, F f) const {
    int n = 0;  // of the thread's units
    ONEPASS_NO_UNROLL
    for (int64_t u = lane; u < units; u += kTogether * kGroup, n += kTogether) {
      Raw raw[kTogether][kArrays];
      ONEPASS_UNROLL
      for (int j = 0; j < kTogether; ++j) {
        if (u + j * kGroup >= units) continue;
        ONEPASS_UNROLL
        for (int i = 0; i < kArrays; ++i)
          raw[j][i] = kSweep == Sweep::kSecond && n + j < kept.units
                          ? kept.get(n + j, i)
                          : fetch<W, float>(in[i], at(u + j * kGroup));
      }
      ONEPASS_UNROLL
      for (int j = 0; j < kTogether; ++j) {
        if (u + j * kGroup >= units) continue;
        float x[kArrays][W];
        ONEPASS_UNROLL
        for (int i = 0; i < kArrays; ++i) {
          if (kSweep == Sweep::kFirst && n + j < kept.units) kept.put(n + j, i, raw[j][i]);
          decode<W, float>(raw[j][i], in[i].dtype, x[i]);
        }
        f(at(u + j * kGroup), x);
      }
    }
  }
  // f(element) for the thread's elements at the ends: fewer than a warp.
  template <class F>
  ONEPASS_DEVICE void each_end(F f) const {
    static_assert(2 * W <= kWarpSize, "the ends are one element a lane");
    const int64_t i = lane < head ? lane : lane + units * W;
    if (i < classes && lane < classes - units * W) f(begin + i);
  }
  template <class F>
  ONEPASS_DEVICE void each_rest(Memory in, F f) const {
    each_end([&](int64_t at) { f(at, load_element<float>(in, at)); });
  }
};

}  // namespace rows
}  // namespace
ONEPASS_END
