// Softmax and log-softmax along the classes of (outer, classes, inner), one launch. One thread
// takes a position if its classes lie `inner` apart, a warp if its row is short, otherwise a block.
//
// Aligned rows of float32 and 16 bits stay in registers if a block can hold them (held_kernel), and
// are read once. A longer one is kept in shared memory (swept_kernel); what that cannot hold is
// read again from the second-level cache. All others take the general walk (softmax_kernel).
#pragma once
#include "cuda/launch.cuh"
#include "cuda/softmax_row.cuh"
#include "kernels/cross_entropy.h"
#include "kernels/softmax.h"

ONEPASS_BEGIN
namespace {
namespace rows {

constexpr int64_t kSoftmaxLongRow = 1024;  // classes from which on a row is a block's
constexpr int64_t kMostSoftmaxBlocks = 2112;
constexpr int kHeldElements = 32;  // of a thread
template <int n>
using Constant = std::integral_constant<int, n>;

struct SoftmaxCall {
  int64_t outer, classes, inner;
  DType dtype;
  const void *x, *dy;
  void* out;
  int32_t width;  // elements of the units in which rows can be read
  int32_t kept;   // units of a thread, of each array, that swept_kernel keeps

  ONEPASS_HD Memory in(const void* data) const { return memory(data, dtype); }
};

// ---- rows in registers

// A row of floats, or of elements widened to them, shared by kGroup threads: kUnits units
// of each, and an element at an end of the row. Places beyond the row hold `nothing`.
template <int W, int kGroup, int kUnits>
struct HeldRow {
  float v[kUnits * W], rest;

  ONEPASS_DEVICE void load(const FlatRow<W, kGroup>& row, Memory in, float nothing) {
    Raw raw[kUnits];
    ONEPASS_UNROLL
    for (int j = 0; j < kUnits; ++j)
      if (row.has(j)) raw[j] = fetch<W, float>(in, row.at(row.lane + j * kGroup));
    rest = nothing;
    row.each_rest(in, [&](int64_t, float x) { rest = x; });
    ONEPASS_UNROLL
    for (int j = 0; j < kUnits; ++j) {
      if (row.has(j)) {
        decode<W, float>(raw[j], in.dtype, v + j * W);
      } else {
        ONEPASS_UNROLL
        for (int w = 0; w < W; ++w) v[j * W + w] = nothing;
      }
    }
  }
  ONEPASS_DEVICE void store(const FlatRow<W, kGroup>& row, Memory out) const {
    ONEPASS_UNROLL
    for (int j = 0; j < kUnits; ++j)
      if (row.has(j)) store_unit<W, float, true>(out, row.at(row.lane + j * kGroup), v + j * W);
    row.each_end([&](int64_t at) { store_element<float>(out, at, rest); });
  }
  // f(place) for all places.
  template <class F>
  ONEPASS_DEVICE void each(F f) {
    ONEPASS_UNROLL
    for (int i = 0; i < kUnits * W; ++i) f(v[i]);
    f(rest);
  }
};

template <class F, int W, int kGroup, int kUnits>
ONEPASS_DEVICE void forward_held(const SoftmaxCall& call, const FlatRow<W, kGroup>& row) {
  constexpr float kNothing = -__builtin_huge_valf();  // its exponential adds nothing
  HeldRow<W, kGroup, kUnits> x;
  x.load(row, call.in(call.x), kNothing);
  float m = kNothing, sum = 0;
  x.each([&](float v) { m = Larger{}(m, v); });
  m = fold<kGroup>(m, Larger{});
  x.each([&](float& v) {
    const float e = exp_below < W == 8 > (v, m);
    sum += e;
    if (F::kOfTerm) v = e;
  });
  const float of_sum = F::of_sum(fold<kGroup>(sum, Plus{}));
  x.each([&](float& v) { v = F::forward(v, m, of_sum); });
  x.store(row, call.in(call.out));
}
template <class F, int W, int kGroup, int kUnits>
ONEPASS_DEVICE void backward_held(const SoftmaxCall& call, const FlatRow<W, kGroup>& row) {
  HeldRow<W, kGroup, kUnits> y, dy;
  y.load(row, call.in(call.x), 0);
  dy.load(row, call.in(call.dy), 0);
  float sum = 0;
  ONEPASS_UNROLL
  for (int i = 0; i < kUnits * W; ++i) sum += F::share(dy.v[i], y.v[i]);
  sum = fold<kGroup>(sum + F::share(dy.rest, y.rest), Plus{});
  ONEPASS_UNROLL
  for (int i = 0; i < kUnits * W; ++i) dy.v[i] = F::backward(dy.v[i], y.v[i], sum);
  dy.rest = F::backward(dy.rest, y.rest, sum);
  dy.store(row, call.in(call.out));
}

// ---- rows that are read twice

template <class F, int W, int kGroup, class Kept>
ONEPASS_DEVICE void forward_swept(const SoftmaxCall& call, const FlatRow<W, kGroup>& row,
                                  const Kept& kept) {
  constexpr int kTogether = 4;
  const Memory in = call.in(call.x), out = call.in(call.out);
  SoftmaxSum<W == 8> softmax;
  row.template each_unit<kTogether, Sweep::kFirst>(
      in, kept, [&](int64_t, const float* x) { softmax.template add<W>(x); });
  row.each_rest(in, [&](int64_t, float x) { softmax.template add<1>(&x); });
  softmax.template fold_over<kGroup>();
  const float m = softmax.largest, of_sum = F::of_sum(softmax.sum);
  const auto result = [&](float x) {
    return F::forward(F::kOfTerm ? exp_below < W == 8 > (x, m) : x, m, of_sum);
  };
  row.template each_unit<kTogether, Sweep::kSecond>(in, kept, [&](int64_t at, const float* x) {
    float y[W];
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) y[w] = result(x[w]);
    store_unit<W, float, true>(out, at, y);
  });
  row.each_rest(in, [&](int64_t at, float x) { store_element<float>(out, at, result(x)); });
}
template <class F, int W, int kGroup, class Kept>
ONEPASS_DEVICE void backward_swept(const SoftmaxCall& call, const FlatRow<W, kGroup>& row,
                                   const Kept& kept) {
  constexpr int kTogether = 2;
  const Memory in = call.in(call.x), more = call.in(call.dy), out = call.in(call.out);
  float sum = 0;
  const auto add = [&](int64_t, const float* y, const float* dy) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) sum += F::share(dy[w], y[w]);
  };
  row.template each_pair<kTogether, Sweep::kFirst>(in, more, kept, add);
  row.each_rest(in,
                [&](int64_t at, float y) { sum += F::share(load_element<float>(more, at), y); });
  sum = fold<kGroup>(sum, Plus{});
  const auto write = [&](int64_t at, const float* y, const float* dy) {
    float dx[W];
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) dx[w] = F::backward(dy[w], y[w], sum);
    store_unit<W, float, true>(out, at, dx);
  };
  row.template each_pair<kTogether, Sweep::kSecond>(in, more, kept, write);
  row.each_rest(in, [&](int64_t at, float y) {
    store_element<float>(out, at, F::backward(load_element<float>(more, at), y, sum));
  });
}

// kElements: of a thread, in registers; 0: rows are swept, by a block.
template <class F, int W, int kBlock, int kGroup, int kElements, bool kBackward>
ONEPASS_DEVICE void flat_rows(const SoftmaxCall& call) {
  constexpr int kAtOnce = kBlock / kGroup;
  const int lane = int(threadIdx.x) % kGroup;
  for (int64_t p = int64_t(blockIdx.x) * kAtOnce + int(threadIdx.x) / kGroup; p < call.outer;
       p += int64_t(gridDim.x) * kAtOnce) {
    const FlatRow<W, kGroup> row(p * call.classes, call.classes, lane);
    if constexpr (kElements > 0) {
      if constexpr (kBackward) {
        backward_held<F, W, kGroup, kElements / W>(call, row);
      } else {
        forward_held<F, W, kGroup, kElements / W>(call, row);
      }
    } else {
      const auto kept = KeptUnits<kBlock>::so_many(call.kept);
      if constexpr (kBackward) {
        backward_swept<F, W, kGroup>(call, row, kept);
      } else {
        forward_swept<F, W, kGroup>(call, row, kept);
      }
    }
  }
}
template <class F, int W, int kBlock, int kGroup, int kElements, bool kBackward>
__global__ void __launch_bounds__(kBlock, kBlock > 256 ? 1 : 2)
    held_kernel(const __grid_constant__ SoftmaxCall call) {
  flat_rows<F, W, kBlock, kGroup, kElements, kBackward>(call);
}
template <class F, int W, int kBlock, bool kBackward>
__global__ void __launch_bounds__(kBlock, kBlock > 512 ? 1 : 2)
    swept_kernel(const __grid_constant__ SoftmaxCall call) {
  flat_rows<F, W, kBlock, kBlock, 0, kBackward>(call);
}

// ---- any other row

// The unit y[0, W) at an element, of which [low, high) is the row's.
template <int W, class T>
ONEPASS_DEVICE void store_part(Memory to, int64_t at, int low, int high, const T* y) {
  if (low == 0 && high == W) {
    store_unit<W, T>(to, at, y);
  } else {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w)
      if (w >= low && w < high) store_element<T>(to, at + w, y[w]);
  }
}
template <int W, class T>
ONEPASS_DEVICE void load_part(Memory from, int64_t at, int low, int high, T* x) {
  if (low == 0 && high == W) {
    load_unit<W, T>(from, at, x);
  } else {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) x[w] = w >= low && w < high ? load_element<T>(from, at + w) : T(0);
  }
}

template <class F, int W, int kGroup, class T>
ONEPASS_DEVICE void forward_row(const SoftmaxCall& call, const Row<W, kGroup, T>& row) {
  const Memory in = call.in(call.x), out = call.in(call.out);
  T m = row.classes > 0 ? load_element<T>(in, row.begin) : T(0);
  row.visit(in, [&](int64_t, int64_t, int low, int high, const T* x) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w)
      if (w >= low && w < high) m = Larger{}(m, x[w]);
  });
  m = fold<kGroup>(m, Larger{});
  LongSums<1, T> sum;
  row.visit(in, [&](int64_t, int64_t, int low, int high, const T* x) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w)
      if (w >= low && w < high) sum.add(cross_entropy_formula::term(x[w], m));
  });
  sum.template fold_over<kGroup>();
  const T of_sum = F::of_sum(sum[0]);
  if constexpr (kGroup == kWarpSize) warp_sync(kFullWarp);  // the result may be x
  row.visit(in, [&](int64_t, int64_t at, int low, int high, const T* x) {
    T y[W];
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w)
      y[w] = F::forward(F::kOfTerm ? cross_entropy_formula::term(x[w], m) : x[w], m, of_sum);
    store_part<W, T>(out, at, low, high, y);
  });
}

template <class F, int W, int kGroup, class T>
ONEPASS_DEVICE void backward_row(const SoftmaxCall& call, const Row<W, kGroup, T>& row) {
  const Memory out = call.in(call.out);
  const auto each = [&](auto f) {
    row.visit(call.in(call.x), [&](int64_t, int64_t at, int low, int high, const T* y) {
      T dy[W];
      load_part<W, T>(call.in(call.dy), at, low, high, dy);
      f(at, low, high, y, dy);
    });
  };
  LongSums<1, T> sums;
  each([&](int64_t, int low, int high, const T* y, const T* dy) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w)
      if (w >= low && w < high) sums.add(F::share(dy[w], y[w]));
  });
  sums.template fold_over<kGroup>();
  const T sum = sums[0];
  if constexpr (kGroup == kWarpSize) warp_sync(kFullWarp);  // the result may be y or dy
  each([&](int64_t at, int low, int high, const T* y, const T* dy) {
    T dx[W];
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) dx[w] = F::backward(dy[w], y[w], sum);
    store_part<W, T>(out, at, low, high, dx);
  });
}

template <class F, int W, int kGroup, class T>
ONEPASS_DEVICE void softmax_rows(const SoftmaxCall& call) {
  each_row<W, kGroup, T>(call.outer, call.classes, call.inner, [&](const auto& row, int64_t, bool) {
    call.dy ? backward_row<F>(call, row) : forward_row<F>(call, row);
  });
}
template <class F, class T, int kGroup>
__global__ void __launch_bounds__(kThreads, 2)
    softmax_kernel(const __grid_constant__ SoftmaxCall call) {
  if (kGroup > 1 && call.width > 1) {
    softmax_rows<F, (kGroup > 1 ? kUnit<T> : 1), kGroup, T>(call);
  } else {
    softmax_rows<F, 1, kGroup, T>(call);
  }
}

template <class F, class T, int kGroup>
void run_walk(const SoftmaxCall& call, cudaStream_t stream) {
  const int64_t blocks =
      smaller(kMostSoftmaxBlocks, ceil_div(call.outer * call.inner, kThreads / kGroup));
  start(&softmax_kernel<F, T, kGroup>, blocks, stream, call);
}

template <class F, int W, bool kBackward>
void run_flat(const SoftmaxCall& call, cudaStream_t stream) {
  const auto held = [&](auto block, auto group, auto elements) {
    constexpr int kBlock = decltype(block)::value, kGroup = decltype(group)::value;
    const auto kernel = &held_kernel<F, W, kBlock, kGroup, decltype(elements)::value, kBackward>;
    start<kBlock>(kernel, smaller(kMostSoftmaxBlocks, ceil_div(call.outer, kBlock / kGroup)),
                  stream, call);
  };
  const auto swept = [&](auto block, int64_t most) {
    constexpr int kBlock = decltype(block)::value;
    constexpr int kArrays = kBackward ? 2 : 1;
    const auto kernel = &swept_kernel<F, W, kBlock, kBackward>;
    SoftmaxCall own = call;
    own.kept =
        keep_units<kBlock>(kernel, call.classes * size_of(call.dtype), kArrays, 1024 / kBlock);
    start_with<kBlock>(KeptUnits<kBlock>::bytes(own.kept, kArrays), kernel,
                       smaller(most, call.outer), stream, own);
  };
  using Few = Constant<8>;
  using Many = Constant<kHeldElements>;
  using Warp = Constant<kWarpSize>;
  if (call.classes <= kWarpSize * Few::value) return held(Constant<kThreads>(), Warp(), Few());
  if (call.classes <= kWarpSize * Many::value) return held(Constant<kThreads>(), Warp(), Many());
  if (call.classes <= kThreads * Many::value)
    return held(Constant<kThreads>(), Constant<kThreads>(), Many());
  if (call.classes <= 512 * Many::value) return held(Constant<512>(), Constant<512>(), Many());
  const int64_t bytes = call.classes * size_of(call.dtype) * (kBackward ? 2 : 1);
  bytes < kWidestRow ? swept(Constant<512>(), kWideBlocks) : swept(Constant<1024>(), kWidestBlocks);
}

template <class F, class T>
void run_softmax(const AlongClasses& c) {
  const auto aligned = [&](int width) {
    return is_aligned(c.x, c.dtype, width) && is_aligned(c.out, c.dtype, width) &&
           (!c.dy || is_aligned(c.dy, c.dtype, width));
  };
  const auto stream = static_cast<cudaStream_t>(c.stream);
  SoftmaxCall call{c.outer, c.classes, c.inner, c.dtype, c.x, c.dy, c.out, 1, 0};
  if (c.inner > 1) return run_walk<F, T, 1>(call, stream);
  if constexpr (sizeof(T) == 4) {
    const int width = c.dtype == DType::f32 ? 4 : 8;
    if (aligned(width)) {
      if (width == 4)
        return c.dy ? run_flat<F, 4, true>(call, stream) : run_flat<F, 4, false>(call, stream);
      return c.dy ? run_flat<F, 8, true>(call, stream) : run_flat<F, 8, false>(call, stream);
    }
  }
  if (aligned(kUnit<T>)) call.width = kUnit<T>;
  c.classes < kSoftmaxLongRow ? run_walk<F, T, kWarpSize>(call, stream)
                              : run_walk<F, T, kThreads>(call, stream);
}
template <template <class> class F>
void run_softmax(const AlongClasses& c) {
  if (c.outer * c.classes * c.inner == 0) return;
  c.dtype == DType::f64 ? run_softmax<F<double>, double>(c) : run_softmax<F<float>, float>(c);
}

}  // namespace rows

// Forward, or backward where there is a dy.
inline void softmax(const AlongClasses& c) {
  c.logarithm ? rows::run_softmax<LogSoftmax>(c) : rows::run_softmax<Softmax>(c);
}

}  // namespace
ONEPASS_END
