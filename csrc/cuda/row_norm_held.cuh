// Rows that are held: a row's threads read it once and keep it in registers until they write
// (row_norm.cuh says which rows).
#pragma once
#include "cuda/row_norm_finish.cuh"

ONEPASS_BEGIN
namespace {
namespace row_norms {

// Which elements of a row a thread holds: units of W, those of neighbouring threads side by side.
// The units of a warp are neighbours, so that its lanes draw dropout's bits together.
template <int W, int kHeld>
struct Holding {
  static constexpr int kUnits = kHeld / W;
  int lane, together, first;  // unit
  int64_t length;

  ONEPASS_DEVICE Holding(int lanes, int64_t row_elements)
      : lane(int(threadIdx.x) % lanes),
        together(lanes < kWarpSize ? lanes : kWarpSize),
        first(lane / together * together * kUnits + lane % together),
        length(row_elements) {}
  ONEPASS_DEVICE int element(int j) const { return (first + j * together) * W; }
  ONEPASS_DEVICE bool has(int j) const { return element(j) < length; }
};

// The keep bits of a thread's units of one row. All threads of a warp call it.
template <int W, int kHeld, class Call>
struct HeldBits {
  uint32_t word = 0;
  bool shared = false;

  ONEPASS_DEVICE HeldBits(const Call& call, const Holding<W, kHeld>& mine, int64_t begin) {
    if constexpr (!Call::is_light) {
      shared = call.path.lanes >= kWarpSize && mine.length % 128 == 0;
      if (call.drops() && shared)
        word = keep_word_of_lane(call.dropout,
                                 (begin + mine.lane / kWarpSize * kWarpSize * kHeld) / kWarpSize);
    }
  }
  // All threads of a warp call it here too.
  ONEPASS_DEVICE uint32_t of(const Call& call, const Holding<W, kHeld>& mine, int64_t begin,
                             int j) const {
    if (!call.drops()) return 0;
    if (!shared) return mine.has(j) ? keep_bits<W>(call, begin + mine.element(j)) : 0;
    const int in_tile = (j * kWarpSize + lane_of(threadIdx.x)) * W;
    return warp_shuffle(kFullWarp, word, in_tile / 32) >> (in_tile % 32);
  }
};

// Adds up the sums of a row and returns the result of `finish` to each of its threads. Memory that
// other threads of the row have read before may be written afterwards.
template <class Result, class F>
ONEPASS_DEVICE Result finish_held(int lanes, double s, double q, F finish) {
  ONEPASS_NO_UNROLL
  for (int bit = 1; bit < lanes && bit < kWarpSize; bit *= 2) {
    s += warp_shuffle_xor(kFullWarp, s, bit);
    q += warp_shuffle_xor(kFullWarp, q, bit);
  }
  if (lanes <= kWarpSize) {
    const Result result = finish(s, q);
    warp_sync(kFullWarp);
    return result;
  }
  constexpr int kMostWarps = most_row_lanes(false) / kWarpSize;
  ONEPASS_SHARED(double, parts, [2][kMostWarps]);
  ONEPASS_SHARED(Result, results, [kMostWarps / 2]);
  const int warp = warp_of(threadIdx.x), warps = lanes / kWarpSize;
  const int row = warp / warps;
  if (lane_of(threadIdx.x) == 0) {
    parts[0][warp] = s;
    parts[1][warp] = q;
  }
  block_sync();
  if (warp % warps == 0) {
    s = q = 0;
    ONEPASS_NO_UNROLL
    for (int i = 0; i < warps; ++i) {
      s += parts[0][warp + i];
      q += parts[1][warp + i];
    }
    const Result result = finish(s, q);
    if (lane_of(threadIdx.x) == 0) results[row] = result;
  }
  block_sync();
  return results[row];
}

// Weights and biases of a thread's elements: in registers where those suffice (kKept). kPacked:
// each element has its own, and those of a unit are loaded at once.
template <class T, int W, int kHeld, bool kKept, bool kPacked, class Call>
struct HeldWeights {
  T weight[kKept ? kHeld : W], bias[kKept ? kHeld : W];
  float part_of_inner;

  ONEPASS_DEVICE explicit HeldWeights(const Call& call) : part_of_inner(1.0f / float(call.inner)) {}
  ONEPASS_DEVICE void load_unit(const Call& call, const Holding<W, kHeld>& mine, int64_t group,
                                int j, T* w, T* b) const {
    if constexpr (kPacked) {
      if (!mine.has(j)) return;
      load_packed<W>(call.weight, mine.element(j), T(1), w);
      load_packed<W>(call.bias, mine.element(j), T(0), b);
      return;
    }
    // Exact: elements of a held row are few.
    const int e = mine.element(j);
    const int c = call.inner == 1 ? e : int((float(e) + 0.5f) * part_of_inner);
    if (mine.has(j))
      load_affine<W, T>(call, group * call.channels, c, e - c * int(call.inner), w, b);
  }
  ONEPASS_DEVICE void load(const Call& call, const Holding<W, kHeld>& mine, int64_t group) {
    if constexpr (kKept) {
      ONEPASS_UNROLL
      for (int j = 0; j < mine.kUnits; ++j)
        load_unit(call, mine, group, j, weight + j * W, bias + j * W);
    }
  }
  // f(weight, bias) of unit j.
  template <class F>
  ONEPASS_DEVICE void use(const Call& call, const Holding<W, kHeld>& mine, int64_t group, int j,
                          F f) const {
    if constexpr (kKept) {
      f(weight + j * W, bias + j * W);
    } else {
      T w[W], b[W];
      load_unit(call, mine, group, j, w, b);
      f(w, b);
    }
  }
};

// The rows of a thread. Every thread of a block takes the same number of steps.
struct RowSteps {
  int64_t first, end;  // `first`: of the block
  int step, place;
  ONEPASS_DEVICE RowSteps(int64_t from, int64_t to, int at_once, int at)
      : first(from), end(to), step(at_once), place(at) {}
  ONEPASS_DEVICE bool any() const { return first < end; }
  ONEPASS_DEVICE void next() { first += step; }
  ONEPASS_DEVICE int64_t row() const { return first + place; }
  ONEPASS_DEVICE bool exists() const { return row() < end; }
};

// kPacked: one group of rows, whose elements each have a weight of their own.
template <class T, int W, int kHeld, bool kPacked, class Call>
__global__ void __launch_bounds__(most_row_lanes(sizeof(T) == 8),
                                  kPacked&& kHeld == many_held_elements(W) ? 2 : 1)
    held_forward_kernel(const __grid_constant__ Call call) {
  using Rule = typename Call::template Rule<T>;
  const int lanes = call.path.lanes, at_once = int(blockDim.x) / lanes;
  const Holding<W, kHeld> mine(lanes, call.row_elements());
  HeldWeights<T, W, kHeld, kHeld == held_elements(W), kPacked, Call> weights(call);
  const int64_t groups = kPacked ? 1 : call.groups;
  if (groups == 1) weights.load(call, mine, 0);
  RowSteps at(int64_t(blockIdx.x) * at_once, call.rows(), int(gridDim.x) * at_once,
              int(threadIdx.x) / lanes);
  int64_t group = divide(at.row(), groups).rest;
  const int64_t group_step = divide(at.step, groups).rest;
  for (; at.any(); at.next()) {
    const int64_t row = at.row(), begin = row * mine.length;
    if (groups > 1 && at.exists()) weights.load(call, mine, group);
    const T shift = Rule::kCentres && at.exists() ? load_element<T>(call.in(call.x), begin) : T(0);
    Unit<T> unit[mine.kUnits];
    ONEPASS_UNROLL
    for (int j = 0; j < mine.kUnits; ++j)
      if (at.exists() && mine.has(j)) unit[j] = fetch_forward<W, T>(call, begin + mine.element(j));
    double s = 0, q = 0;
    ONEPASS_UNROLL
    for (int j = 0; j < mine.kUnits; ++j)
      if (at.exists() && mine.has(j)) add_moments<W>(call, unit[j].x, shift, &s, &q);
    const HeldBits<W, kHeld, Call> bits(call, mine, begin);
    const auto p = finish_held<RowState<T>>(lanes, s, q, [&](double sum, double squares) {
      return at.exists() ? finish_forward<T>(call, row, sum, squares, shift, mine.lane == 0)
                         : RowState<T>{};
    });
    ONEPASS_UNROLL
    for (int j = 0; j < mine.kUnits; ++j) {
      const uint32_t kept = bits.of(call, mine, begin, j);
      if (!at.exists() || !mine.has(j)) continue;
      weights.use(call, mine, group, j, [&](const T* w, const T* b) {
        store_output<W>(call, p, unit[j], w, b, begin + mine.element(j), kept);
      });
    }
    if (groups == 1) continue;
    group += group_step;
    if (group >= groups) group -= groups;
  }
}

// Adds the sums of columns over the rows that a block has at once, and leaves them as the block's
// part: [part][Σg, Σg·x̂][group][column].
template <int W, int kHeld, class Call>
ONEPASS_DEVICE void store_columns(const Call& call, const Holding<W, kHeld>& mine, int64_t part,
                                  int64_t group, double (&sums)[2][kHeld]) {
  ONEPASS_SHARED(double, all, [kHeld][kThreads]);
  const int lanes = call.path.lanes, thread = int(threadIdx.x);
  ONEPASS_UNROLL
  for (int k = 0; k < 2; ++k) {
    if (lanes < kThreads) {  // so that a block has several
      block_sync();
      ONEPASS_UNROLL
      for (int e = 0; e < kHeld; ++e) all[e][thread] = sums[k][e];
      block_sync();
      if (thread < lanes)
        for (int other = thread + lanes; other < kThreads; other += lanes) ONEPASS_UNROLL
      for (int e = 0; e < kHeld; ++e) sums[k][e] += all[e][other];
    }
    if (thread >= lanes) continue;
    double* to = call.partial + (part * 2 + k) * call.groups * mine.length + group * mine.length;
    ONEPASS_UNROLL
    for (int j = 0; j < mine.kUnits; ++j) ONEPASS_UNROLL
    for (int w = 0; w < W; ++w)
      if (mine.has(j)) to[mine.element(j) + w] = sums[k][j * W + w];
  }
}

// A block has the rows of a group in a part of outer.
template <class T, int W, class Call>
__global__ void __launch_bounds__(most_row_lanes(sizeof(T) == 8), 1)
    held_backward_kernel(const __grid_constant__ Call call) {
  constexpr int kHeld = held_elements(W);
  // All loads of a row go ahead of what is done with them, where registers suffice.
  constexpr bool kAhead = Call::is_light || W != 4;
  const int lanes = call.path.lanes, at_once = int(blockDim.x) / lanes;
  const int64_t group = blockIdx.x % call.groups, part = blockIdx.x / call.groups;
  const int64_t parts = call.path.parts;
  const Holding<W, kHeld> mine(lanes, call.row_elements());
  HeldWeights<T, W, kHeld, Call::is_light, false, Call> weights(call);
  weights.load(call, mine, group);
  double sums[2][kHeld] = {};
  RowSteps at(call.outer * part / parts, call.outer * (part + 1) / parts, at_once,
              int(threadIdx.x) / lanes);
  for (; at.any(); at.next()) {
    const int64_t row = at.row() * call.groups + group, begin = row * mine.length;
    RowState<T> p{};
    if (at.exists()) p = state_of<T, Call>(load_saved<T>(call, row));
    Unit<T> unit[mine.kUnits];
    ONEPASS_UNROLL
    for (int j = 0; j < mine.kUnits; ++j)
      if (kAhead && at.exists() && mine.has(j))
        unit[j] = fetch_backward<W, T>(call, begin + mine.element(j), false);
    const HeldBits<W, kHeld, Call> bits(call, mine, begin);
    T g[kHeld], hat[kHeld];
    double s = 0, q = 0;
    ONEPASS_UNROLL
    for (int j = 0; j < mine.kUnits; ++j) {
      const uint32_t kept = bits.of(call, mine, begin, j);
      if (!at.exists() || !mine.has(j)) continue;
      const int64_t element = begin + mine.element(j);
      if (!kAhead) unit[j] = fetch_backward<W, T>(call, element, false);
      weights.use(call, mine, group, j, [&](const T* w, const T* b) {
        gradient_unit<W>(call, p, unit[j], w, b, kept, T(1), false, g + j * W, hat + j * W);
        ONEPASS_UNROLL
        for (int i = 0; i < W; ++i) {
          const double of_g = double(g[j * W + i]), of_hat = double(hat[j * W + i]);
          const double weighted = of_g * double(w[i]);
          sums[0][j * W + i] += of_g;
          sums[1][j * W + i] += of_g * of_hat;
          s += weighted;
          q += weighted * of_hat;
        }
      });
      if (call.dresidual) store_unit<W, T>(call.in(call.dresidual), element, g + j * W);
    }
    if (!call.dx) continue;
    p = finish_held<RowState<T>>(lanes, s, q, [&](double sum, double products) {
      auto of = p;
      if (at.exists()) finish_backward<T>(call, row, sum, products, &of);
      return of;
    });
    ONEPASS_UNROLL
    for (int j = 0; j < mine.kUnits; ++j)
      if (at.exists() && mine.has(j))
        weights.use(call, mine, group, j, [&](const T* w, const T*) {
          store_input_gradient<W>(call, p, g + j * W, hat + j * W, w, T(1),
                                  begin + mine.element(j));
        });
  }
  if (call.dweight.data || call.dbias.data) store_columns<W>(call, mine, part, group, sums);
}

}  // namespace row_norms
}  // namespace
ONEPASS_END
