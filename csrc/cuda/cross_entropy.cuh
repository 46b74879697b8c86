// Cross entropy over the classes of (outer, classes, inner), loss and gradient in one launch. One
// thread takes a position if its classes lie `inner` apart, a warp if its row is short, otherwise a
// block. Labels without smoothing, the common case, have a kernel of their own (plain_kernel): a
// row is read once, and kept by the block in shared memory; what that cannot hold, and the short
// rows of warps, are read once more, from a cache. The other one (row_kernel) reads it twice more.
//
// Deterministic: the grid follows from sizes alone, and the blocks' partial sums are added in
// order, the label weights by every block of the next kernel, the losses by a last one.
#pragma once
#include "cuda/launch.cuh"
#include "cuda/softmax_row.cuh"
#include "kernels/cross_entropy.h"

ONEPASS_BEGIN
namespace {
namespace rows {

using cross_entropy_formula::Smoothing;

constexpr int64_t kBlocks = 528;
constexpr int64_t kLongRow = 1024;      // classes from which on a row is a block's
constexpr int64_t kWideRow = 32 << 10;  // bytes, of plain_kernel

struct Call {
  int64_t outer = 0, classes = 0, inner = 0;
  DType dtype = DType::f32;
  const void* logits = nullptr;
  void* dlogits = nullptr;
  const int64_t* labels = nullptr;
  const void* probabilities = nullptr;
  ChannelVector weight;
  double label_smoothing = 0;
  int64_t ignore_index = 0;
  Reduction reduction = Reduction::none;
  ChannelVector loss;
  void* losses = nullptr;
  uint32_t* bad_label = nullptr;
  double *weights = nullptr, *partials = nullptr;  // of the blocks
  int64_t blocks = 0;
  int32_t width = 1;  // elements of the units in which rows can be read
  int32_t kept = 0;   // units of a thread that plain_kernel keeps

  ONEPASS_HD int64_t positions() const { return outer * inner; }
  ONEPASS_HD Memory in(const void* data) const { return memory(data, dtype); }
  // q is zero but at the label.
  ONEPASS_HD bool plain() const { return labels && label_smoothing == 0; }
  ONEPASS_HD bool in_range(int64_t label) const { return uint64_t(label) < uint64_t(classes); }
};

// Sum over `count` values in a fixed order, to every thread of a block of kBlock.
template <int kBlock = kThreads>
ONEPASS_DEVICE double block_total(const double* values, int64_t count) {
  ONEPASS_SHARED(double, parts, [kBlock / kWarpSize]);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kBlock) sum += values[i];
  return block_fold<kBlock / kWarpSize>(sum, Plus{}, parts);
}
template <int kBlock = kThreads>
ONEPASS_DEVICE double denominator(const Call& call) {
  if (call.reduction != Reduction::mean) return 1;
  return call.labels ? block_total<kBlock>(call.weights, call.blocks) : double(call.positions());
}

template <int W, int kGroup, class T>
struct Position {
  const Call& call;
  Row<W, kGroup, T> row;
  Smoothing<T> smoothing;
  int64_t position, label;  // label -1: probabilities, or none
  T reduction;
  bool counts;  // in range, not ignored

  ONEPASS_DEVICE T class_weight(int64_t c) const { return T(load_wide(memory(call.weight), c, 1)); }
  ONEPASS_DEVICE T even_share(int64_t c, int64_t at) const {
    const T t = call.probabilities ? load_element<T>(call.in(call.probabilities), at) : T(0);
    return cross_entropy_formula::target(t, class_weight(c), smoothing);
  }
  ONEPASS_DEVICE T largest(T m) const {
    row.visit(call.in(call.logits), [&](int64_t, int64_t, int low, int high, const T* x) {
      ONEPASS_UNROLL
      for (int w = 0; w < W; ++w)
        if (w >= low && w < high) m = Larger{}(m, x[w]);
    });
    return fold<kGroup>(m, Larger{});
  }
  // `weighted` gets halves of the shares, since x - m may exceed the range of T. The bits are those
  // of whole shares.
  ONEPASS_DEVICE void add(T m, T* sum, T* total, T* weighted) const {
    LongSums<1, T> terms;
    LongSums<2, T> shares;
    row.visit(call.in(call.logits), [&](int64_t c, int64_t at, int low, int high, const T* x) {
      ONEPASS_UNROLL
      for (int w = 0; w < W; ++w) {
        if (w < low || w >= high) continue;
        terms.add(cross_entropy_formula::term(x[w], m));
        if (call.plain()) continue;
        const T q = even_share(c + w, at + w);
        shares.add(q, cross_entropy_formula::share(q, T(0.5) * x[w] - T(0.5) * m));
      }
    });
    terms.template fold_over<kGroup>();
    *sum = terms[0];
    if (call.plain()) return;
    shares.template fold_over<kGroup>();
    *total = shares[0];
    *weighted = shares[1];
  }
  ONEPASS_DEVICE void write_gradient(T m, T factor, T hot) const {
    row.visit(call.in(call.logits), [&](int64_t c, int64_t at, int low, int high, const T* x) {
      T d[W];
      ONEPASS_UNROLL
      for (int w = 0; w < W; ++w) {
        d[w] = T(0);
        if (!counts || w < low || w >= high) continue;
        const T q = call.plain() ? T(0) : reduction * even_share(c + w, at + w);
        d[w] = cross_entropy_formula::gradient(cross_entropy_formula::term(x[w], m), factor, q);
        if (c + w == label) d[w] -= hot * reduction;
      }
      if (low == 0 && high == W) {
        store_unit<W, T>(call.in(call.dlogits), at, d);
      } else {
        ONEPASS_UNROLL
        for (int w = 0; w < W; ++w)
          if (w >= low && w < high) store_element<T>(call.in(call.dlogits), at + w, d[w]);
      }
    });
  }
  // Every thread of the group comes here; the loss is right in all of them.
  ONEPASS_DEVICE T run() const {
    const Memory logits = call.in(call.logits);
    const bool exists = row.classes > 0;
    const T first = exists ? load_element<T>(logits, row.begin) : T(0);
    const bool hot_class = exists && counts && label >= 0;
    const T picked = hot_class ? load_element<T>(logits, row.begin + label * row.stride) : T(0);
    const T hot = hot_class ? smoothing.hot * class_weight(label) : T(0);
    const T m = largest(first);
    T sum = T(0), total = T(0), weighted = T(0);
    add(m, &sum, &total, &weighted);
    total += hot;
    weighted += cross_entropy_formula::share(hot, T(0.5) * picked - T(0.5) * m);
    if constexpr (kGroup == kWarpSize) warp_sync(kFullWarp);  // dlogits may be logits
    if (call.dlogits) write_gradient(m, total / sum * reduction, hot);
    return counts ? cross_entropy_formula::loss(total, sum, T(2) * weighted) : T(0);
  }
};

template <class T, int kGroup, int W>
ONEPASS_DEVICE double positions_of_block(const Call& call, T reduction) {
  constexpr int kAtOnce = kThreads / kGroup;
  const int64_t positions = call.positions();
  const int lane = int(threadIdx.x) % kGroup;
  const auto smoothing = Smoothing<T>::of(call.label_smoothing, call.classes);
  double added = 0;
  for (int64_t base = int64_t(blockIdx.x) * kAtOnce; base < positions;
       base += int64_t(gridDim.x) * kAtOnce) {
    const int64_t p = base + int(threadIdx.x) / kGroup;
    const bool exists = p < positions;
    const int64_t o = exists ? p / call.inner : 0, i = exists ? p % call.inner : 0;
    int64_t label = -1;
    bool counts = exists, bad = false;
    if (exists && call.labels) {
      label = call.labels[p];
      counts = label != call.ignore_index && call.in_range(label);
      bad = !counts && label != call.ignore_index;
      if (lane == 0 && bad && call.bad_label) tell_host(call.bad_label, 1u);
    }
    const Position<W, kGroup, T> position{
        call,      {o * call.classes * call.inner + i, exists ? call.classes : 0, call.inner, lane},
        smoothing, p,
        label,     reduction,
        counts};
    const T value = position.run(), loss = bad ? math::quiet_nan<T>() : value;
    if (lane != 0 || !exists) continue;
    added += double(loss);
    if (call.reduction == Reduction::none) store_element<T>(call.in(call.losses), p, loss);
  }
  return added;
}

template <class T, int kGroup>
__global__ void __launch_bounds__(kThreads, 2) row_kernel(const __grid_constant__ Call call) {
  ONEPASS_SHARED(double, parts, [kWarps]);
  const T reduction = T(1 / denominator(call));
  double added;
  if (kGroup > 1 && call.width > 1) {
    added = positions_of_block<T, kGroup, (kGroup > 1 ? kUnit<T> : 1)>(call, reduction);
  } else {
    added = positions_of_block<T, kGroup, 1>(call, reduction);
  }
  added = block_fold(added, Plus{}, parts);
  if (threadIdx.x == 0) call.partials[blockIdx.x] = added;
}

// A row of floats with a label and no smoothing.
template <int kGroup, int W, class Kept>
struct PlainRow {
  static constexpr bool kNarrow = W == 8;  // 16 bits an element
  static constexpr int kTogether = 4;
  const Call& call;
  FlatRow<W, kGroup> row;
  Kept kept;
  int64_t label;  // in range, or -1: the row does not count
  float reduction;

  ONEPASS_DEVICE void write(int64_t at, const float* d) const {
    store_unit<W, float, true>(call.in(call.dlogits), at, d);
  }
  ONEPASS_DEVICE void write_zeros() const {
    const float zeros[W] = {};
    for (int64_t u = row.lane; u < row.units; u += kGroup) write(row.at(u), zeros);
    row.each_rest(call.in(call.logits), [&](int64_t at, float) {
      store_element<float>(call.in(call.dlogits), at, 0.0f);
    });
  }
  ONEPASS_DEVICE void write_gradient(float m, float factor, float hot) const {
    const int64_t labelled = row.begin + label;
    const auto gradient = [&](float x) { return exp_below<kNarrow>(x, m) * factor; };
    const auto write_unit = [&](int64_t at, const float* x) {
      float d[W];
      ONEPASS_UNROLL
      for (int w = 0; w < W; ++w) d[w] = gradient(x[w]);
      if (uint64_t(labelled - at) < uint64_t(W)) {
        ONEPASS_UNROLL
        for (int w = 0; w < W; ++w)
          if (at + w == labelled) d[w] -= hot;
      }
      write(at, d);
    };
    row.template each_unit<kTogether, Sweep::kSecond>(call.in(call.logits), kept, write_unit);
    row.each_rest(call.in(call.logits), [&](int64_t at, float x) {
      store_element<float>(call.in(call.dlogits), at, gradient(x) - (at == labelled ? hot : 0.0f));
    });
  }
  // Every thread of the group comes here; the loss is right in all of them.
  ONEPASS_DEVICE float run() const {
    if (label < 0) {
      if (call.dlogits) write_zeros();
      return 0;
    }
    const Memory logits = call.in(call.logits);
    const float picked = load_element<float>(logits, row.begin + label);
    const float weight = float(load_wide(memory(call.weight), label, 1));
    SoftmaxSum<kNarrow> softmax;
    row.template each_unit<kTogether, Sweep::kFirst>(
        logits, kept, [&](int64_t, const float* x) { softmax.template add<W>(x); });
    row.each_rest(logits, [&](int64_t, float x) { softmax.template add<1>(&x); });
    softmax.template fold_over<kGroup>();
    if constexpr (kGroup == kWarpSize) warp_sync(kFullWarp);  // dlogits may be logits
    const float m = softmax.largest, sum = softmax.sum;
    if (call.dlogits) write_gradient(m, weight / sum * reduction, weight * reduction);
    // Twice the half: picked - m may exceed the range of float.
    const float half = cross_entropy_formula::share(weight, 0.5f * picked - 0.5f * m);
    return cross_entropy_formula::loss(weight, sum, 2.0f * half);
  }
};

template <int kBlock, int kGroup, int W>
__global__ void __launch_bounds__(kBlock, kBlock > 512 ? 1 : 2)
    plain_kernel(const __grid_constant__ Call call) {
  ONEPASS_SHARED(double, parts, [kBlock / kWarpSize]);
  constexpr int kAtOnce = kBlock / kGroup;
  using Kept = std::conditional_t<kAtOnce == 1, KeptUnits<kBlock>, NoneKept>;
  const Kept kept = Kept::so_many(call.kept);
  const int lane = int(threadIdx.x) % kGroup;
  const float reduction = float(1 / denominator<kBlock>(call));
  double added = 0;
  for (int64_t base = int64_t(blockIdx.x) * kAtOnce; base < call.outer;
       base += int64_t(gridDim.x) * kAtOnce) {
    const int64_t p = base + int(threadIdx.x) / kGroup;
    const bool exists = p < call.outer;
    const int64_t label = exists ? call.labels[p] : -1;
    const bool counts = exists && label != call.ignore_index && call.in_range(label);
    const bool bad = exists && !counts && label != call.ignore_index;
    if (lane == 0 && bad && call.bad_label) tell_host(call.bad_label, 1u);
    const FlatRow<W, kGroup> row(exists ? p * call.classes : 0, exists ? call.classes : 0, lane);
    const PlainRow<kGroup, W, Kept> plain{call, row, kept, counts ? label : -1, reduction};
    const float value = plain.run();
    const float loss = bad ? math::quiet_nan<float>() : value;
    if (lane != 0 || !exists) continue;
    added += double(loss);
    if (call.reduction == Reduction::none) store_element<float>(call.in(call.losses), p, loss);
  }
  added = block_fold<kBlock / kWarpSize>(added, Plus{}, parts);
  if (threadIdx.x == 0) call.partials[blockIdx.x] = added;
}

// The weights of the labels that count.
template <class = void>
__global__ void __launch_bounds__(kThreads, 2) weight_kernel(const __grid_constant__ Call call) {
  ONEPASS_SHARED(double, parts, [kWarps]);
  double sum = 0;
  for (int64_t p = int64_t(blockIdx.x) * kThreads + threadIdx.x; p < call.positions();
       p += int64_t(gridDim.x) * kThreads) {
    const int64_t label = call.labels[p];
    if (label != call.ignore_index && call.in_range(label))
      sum += load_wide(memory(call.weight), label, 1);
  }
  sum = block_fold(sum, Plus{}, parts);
  if (threadIdx.x == 0) call.weights[blockIdx.x] = sum;
}

template <class = void>
__global__ void __launch_bounds__(kThreads, 2) finish_loss(const __grid_constant__ Call call) {
  const double sum = block_total(call.partials, call.blocks);
  const double all = denominator(call);
  if (threadIdx.x == 0) store_wide(memory(call.loss), 0, sum / all);
}

inline int32_t width_of(const CrossEntropy& c) {
  for (int width : {8, 4, 2})
    if (width * size_of(c.dtype) == 16 && is_aligned(c.logits, c.dtype, width) &&
        is_aligned(c.dlogits, c.dtype, width))
      return width;
  return 1;
}
inline Call describe(const CrossEntropy& c, int64_t blocks, int64_t at_once) {
  auto* partials = static_cast<double*>(c.workspace);
  Call call;
  call.outer = c.outer;
  call.classes = c.classes;
  call.inner = c.inner;
  call.dtype = c.dtype;
  call.logits = c.logits;
  call.dlogits = c.dlogits;
  call.labels = c.labels;
  call.probabilities = c.probabilities;
  call.weight = c.weight;
  call.label_smoothing = c.label_smoothing;
  call.ignore_index = c.ignore_index;
  call.reduction = c.reduction;
  call.loss = c.loss;
  call.losses = c.losses;
  call.bad_label = c.bad_label;
  call.weights = partials + kBlocks;
  call.partials = partials;
  call.blocks = smaller(blocks, ceil_div(c.outer * c.inner, at_once));
  call.width = width_of(c);
  return call;
}

// `kernel` with its smaller helpers before and after it.
template <int kBlock, class Kernel>
void run_kernel(const CrossEntropy& c, const Call& call, Kernel kernel, int64_t shared_bytes = 0) {
  const auto stream = static_cast<cudaStream_t>(c.stream);
  if (call.blocks > 0) {
    if (call.reduction == Reduction::mean && call.labels)
      start(&weight_kernel<>, call.blocks, stream, call);
    start_with<kBlock>(shared_bytes, kernel, call.blocks, stream, call);
  }
  if (call.reduction != Reduction::none) start(&finish_loss<>, 1, stream, call);
}
template <class T, int kGroup>
void run_as(const CrossEntropy& c) {
  const Call call = describe(c, kBlocks, kThreads / kGroup);
  run_kernel<kThreads>(c, call, &row_kernel<T, kGroup>);
}
template <int kBlock, int kGroup>
void run_plain(const CrossEntropy& c, int64_t blocks) {
  Call call = describe(c, blocks, kBlock / kGroup);
  const auto kernel =
      call.width == 8 ? &plain_kernel<kBlock, kGroup, 8> : &plain_kernel<kBlock, kGroup, 4>;
  if (kBlock == kGroup && c.dlogits)
    call.kept = keep_units<kBlock>(kernel, c.classes * size_of(c.dtype), 1, 1024 / kBlock);
  run_kernel<kBlock>(c, call, kernel, KeptUnits<kBlock>::bytes(call.kept, 1));
}
template <class T>
void run(const CrossEntropy& c) {
  if (c.inner > 1) return run_as<T, 1>(c);
  const int64_t bytes = c.classes * size_of(c.dtype);
  const bool plain = sizeof(T) == 4 && c.labels && c.label_smoothing == 0 && width_of(c) > 1;
  if (plain) {
    if (c.classes < kLongRow) return run_plain<kThreads, kWarpSize>(c, kBlocks);
    if (bytes < kWideRow) return run_plain<kThreads, kThreads>(c, kBlocks);
    if (bytes < kWidestRow) return run_plain<512, 512>(c, kWideBlocks);
    return run_plain<1024, 1024>(c, kWidestBlocks);
  }
  if (c.classes < kLongRow) return run_as<T, kWarpSize>(c);
  run_as<T, kThreads>(c);
}

}  // namespace rows

inline int64_t cross_entropy_workspace(const CrossEntropy&) {
  return 2 * rows::kBlocks * int64_t(sizeof(double));
}

inline void cross_entropy(const CrossEntropy& c) {
  if (!c.workspace) return record_error("cross_entropy needs a workspace");
  c.dtype == DType::f64 ? rows::run<double>(c) : rows::run<float>(c);
}

}  // namespace
ONEPASS_END
