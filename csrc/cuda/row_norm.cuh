// The driver of norms over rows, by any rule (kernels/row_norm_list.h), with the epilogue behind
// them, forward and backward, over dense (outer, groups, channels, inner) arrays.
//
// A short row is held: its threads read it once and keep it in registers until they write. Any
// other row is walked over twice, the second time while it is in cache if one block has it (whole).
// Few long rows are split: blocks share the sums of a row, a small kernel finishes the rows, blocks
// share the rest. Sums are in double, of x minus the row's first element.
#pragma once
#include "cuda/launch.cuh"
#include "cuda/row_norm_columns.cuh"
#include "cuda/row_norm_held.cuh"
#include "cuda/row_norm_walk.cuh"

ONEPASS_BEGIN
namespace {
namespace row_norms {

// ---- rows that are walked over

enum class Phase : int32_t { whole, add, apply };

template <class T, bool kForward, int W, class Call>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 1 : 2)
    row_kernel(const __grid_constant__ Call call, Phase phase) {
  const int per_warp = kWarpSize / call.path.lanes;  // pieces
  if (phase == Phase::add) {
    const int64_t tasks = ceil_div(call.path.pieces, per_warp);  // of a row
    const int64_t task = int64_t(blockIdx.x) * kWarps + warp_of(threadIdx.x);
    if (task < call.rows() * tasks)
      add_pieces<T, kForward, W>(call, task / tasks, task % tasks * per_warp);
  } else if (phase == Phase::apply) {
    const int64_t splits = call.path.apply_splits, row = blockIdx.x / splits;
    apply_row<T, kForward, W>(call, row, blockIdx.x % splits, splits, int(threadIdx.x), kThreads);
  } else {
    const int threads = call.path.by_warps ? kWarpSize : kThreads;
    const int64_t row = int64_t(blockIdx.x) * (kThreads / threads) + int(threadIdx.x) / threads;
    const int thread = int(threadIdx.x) % threads, warp = warp_of(unsigned(thread));
    const auto sync = [&] { call.path.by_warps ? warp_sync(kFullWarp) : block_sync(); };
    const bool exists = row < call.rows();  // the same for all that sync
    if (exists)
      for (int64_t piece = warp * per_warp; piece < call.path.pieces;
           piece += threads / kWarpSize * per_warp)
        add_pieces<T, kForward, W>(call, row, piece);
    sync();
    if (!call.applies()) return;
    if (exists && warp == 0) finish_row<T, kForward>(call, row);
    sync();
    if (exists) apply_row<T, kForward, W>(call, row, 0, 1, thread, threads);
  }
}
template <class T, bool kForward, class Call>
__global__ void __launch_bounds__(kThreads, 2)
    finish_rows_kernel(const __grid_constant__ Call call) {
  const int64_t row = int64_t(blockIdx.x) * kWarps + warp_of(threadIdx.x);
  if (row < call.rows()) finish_row<T, kForward>(call, row);
}

// The sums of columns of long rows, a unit of columns for each thread.
template <class T, int W, class Call>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 1 : 2)
    column_kernel(const __grid_constant__ Call call) {
  const int64_t length = call.channels, tiles = ceil_div(length, kThreads * W);
  const int64_t tile = blockIdx.x % tiles, group = blockIdx.x / tiles % call.groups;
  const int64_t part = blockIdx.x / tiles / call.groups, parts = call.path.parts;
  const int64_t column = (tile * kThreads + threadIdx.x) * W;
  if (column >= length) return;
  T w[W], b[W];
  load_affine<W, T>(call, group * length, column, 0, w, b);
  double sums[2][W] = {};
  const int64_t end = call.outer * (part + 1) / parts;
  ONEPASS_NO_UNROLL
  for (int64_t o = call.outer * part / parts; o < end; ++o) {
    const int64_t row = o * call.groups + group, at = row * length + column;
    const auto unit = fetch_backward<W, T>(call, at, false);
    const auto p = state_of<T, Call>(load_saved<T>(call, row));
    T g[W], hat[W];
    gradient_unit<W>(call, p, unit, w, b, call.drops() ? keep_bits<W>(call, at) : 0, T(1), false, g,
                     hat);
    ONEPASS_UNROLL
    for (int i = 0; i < W; ++i) {
      sums[0][i] += double(g[i]);
      sums[1][i] += double(g[i]) * double(hat[i]);
    }
  }
  ONEPASS_UNROLL
  for (int k = 0; k < 2; ++k) ONEPASS_UNROLL
  for (int i = 0; i < W; ++i)
    call.columns[((part * 2 + k) * call.groups + group) * length + column + i] = sums[k][i];
}

// ---- host

// Bytes of a call's workspace, one after another.
struct Workspace {
  int64_t corrections, moments, partial, columns, all;
};
inline int64_t double_bytes(int64_t count) { return round_up(count, 2) * 8; }
inline Workspace workspace_of(const RowNorm& n, const RowPath& path) {
  const bool backward = n.dy != nullptr, adds = n.dweight.data || n.dbias.data;
  const int64_t rows = n.rows(), columns = n.groups * n.row_elements();
  const bool moves = n.running_mean.data || n.running_var.data;
  const int64_t of_columns =
      backward && adds && n.inner == 1 ? double_bytes(2 * path.parts * columns) : 0;
  Workspace w{};
  if (!backward && moves) w.moments = double_bytes(2 * rows);
  if (backward && !path.held) w.corrections = double_bytes(3 * rows);
  w.partial = path.held ? of_columns : double_bytes(2 * rows * path.pieces);
  w.columns = path.held ? 0 : of_columns;
  w.all = w.corrections + w.moments + w.partial + w.columns;
  return w;
}

inline int unit_of(const RowNorm& n) {
  int unit = n.dtype == DType::f64 ? 2 : size_of(n.dtype) == 2 ? 8 : 4;
  bool all = true;
  for (const void* data : {n.x, n.epilogue.residual, static_cast<const void*>(n.y), n.dy,
                           static_cast<const void*>(n.dx), static_cast<const void*>(n.dresidual)})
    all = all && is_aligned(data, n.dtype, unit);
  return all ? unit : 1;
}
// Backward behind a heavy epilogue, registers suffice for four elements of a walked row.
inline RowPath path_of(const RowNorm& n) {
  const bool backward = n.dy != nullptr;
  const int unit = unit_of(n), walked = unit == 8 && backward && !is_light(n) ? 4 : unit;
  return row_norm_path(n.outer, n.groups, n.channels, n.inner, unit, walked, n.dtype == DType::f64,
                       backward);
}

template <class Call>
Call describe(const RowNorm& n, double part) {
  Call call{};
  call.outer = n.outer;
  call.groups = n.groups;
  call.channels = n.channels;
  call.inner = n.inner;
  call.is_half = n.dtype == DType::f16;
  call.x = n.x;
  call.residual = n.epilogue.residual;
  call.y = n.y;
  call.dy = n.dy;
  call.dx = n.dx;
  call.dresidual = n.dresidual;
  call.weight = n.weight;
  call.bias = n.bias;
  call.dweight = n.dweight;
  call.dbias = n.dbias;
  call.running_mean = n.running_mean;
  call.running_var = n.running_var;
  call.momentum = n.momentum;
  call.eps = n.eps;
  call.part = part;
  call.saved = n.saved;
  call.activation = ChosenActivation::of(n.epilogue.activation, n.epilogue.options);
  call.dropout = n.epilogue.dropout;
  call.keep_scale = n.dtype == DType::f64
                        ? dropout_scale<double>(n.epilogue.dropout.threshold)
                        : double(dropout_scale<float>(n.epilogue.dropout.threshold));
  call.backward = n.dy != nullptr;
  if (call.elements() == 0) return call;
  call.path = path_of(n);
  const Workspace bytes = workspace_of(n, call.path);
  char* memory = static_cast<char*>(n.workspace);
  call.corrections = memory;
  memory += bytes.corrections;
  if (bytes.moments) call.moments = reinterpret_cast<double*>(memory);
  memory += bytes.moments;
  call.partial = reinterpret_cast<double*>(memory);
  memory += bytes.partial;
  call.columns = reinterpret_cast<double*>(memory);
  const int width = call.path.width;
  call.packs_weights = n.inner == 1 && n.channels % width == 0 &&
                       is_aligned(n.weight.data, n.weight.dtype, width) &&
                       is_aligned(n.bias.data, n.bias.dtype, width);
  // The residual's gradient is g: what the first walk wrote, the second reads, unless it was
  // rounded.
  if (size_of(n.dtype) >= 4 && !call.path.held) call.kept_gradient = n.dresidual;
  return call;
}

// Calls f with the width of the call's path as a constant.
template <int kWide, class Call, class F>
void with_width(const Call& call, F f) {
  call.path.width == 1 ? f(std::integral_constant<int, 1>())
                       : f(std::integral_constant<int, kWide>());
}

template <class... P>
void start_held(void (*kernel)(P...), int lanes, int64_t blocks, cudaStream_t stream,
                const typename SameType<P>::type&... arguments) {
  lanes > kThreads ? start<most_row_lanes(false)>(kernel, blocks, stream, arguments...)
                   : start(kernel, blocks, stream, arguments...);
}

template <class T, int W, bool kForward, class Call>
void run_held(const Call& call, cudaStream_t stream) {
  constexpr int64_t kMostBlocks = 2112;
  const int lanes = call.path.lanes, at_once = lanes < kThreads ? kThreads / lanes : 1;
  if constexpr (kForward) {
    const int64_t blocks = smaller(kMostBlocks, ceil_div(call.rows(), at_once));
    constexpr int kFew = held_elements(W), kMany = many_held_elements(W);
    auto kernel = &held_forward_kernel<T, W, kFew, false, Call>;
    if constexpr (W >= 4) {
      if (call.path.kept == kMany) kernel = &held_forward_kernel<T, W, kMany, false, Call>;
      if constexpr (Call::is_light)
        if (call.is_packed())
          kernel = call.path.kept == kMany ? &held_forward_kernel<T, W, kMany, true, Call>
                                           : &held_forward_kernel<T, W, kFew, true, Call>;
    }
    start_held(kernel, lanes, blocks, stream, call);
  } else {
    start_held(&held_backward_kernel<T, W, Call>, lanes, call.groups * call.path.parts, stream,
               call);
  }
}

template <class T, int W, bool kForward, class Call>
void run_walked(const Call& call, cudaStream_t stream) {
  const RowPath& path = call.path;
  const int64_t rows = call.rows();
  const auto kernel = &row_kernel<T, kForward, W, Call>;
  if constexpr (!kForward)
    if (call.inner == 1 && (call.dweight.data || call.dbias.data))
      start(&column_kernel<T, W, Call>,
            ceil_div(call.channels, kThreads * W) * call.groups * path.parts, stream, call);
  if (path.whole) {
    const int64_t blocks = path.by_warps ? ceil_div(rows, kWarps) : rows;
    start(kernel, blocks, stream, call, Phase::whole);
  } else {
    const int64_t tasks = rows * ceil_div(path.pieces, kWarpSize / path.lanes);
    start(kernel, ceil_div(tasks, kWarps), stream, call, Phase::add);
    if (!call.applies()) return;
    start(&finish_rows_kernel<T, kForward, Call>, ceil_div(rows, kWarps), stream, call);
    start(kernel, rows * path.apply_splits, stream, call, Phase::apply);
  }
}

// The gradients of weight and bias, from the sums that the kernels before have left.
template <class Call>
void run_weights(const Call& call, cudaStream_t stream) {
  if (!call.dweight.data && !call.dbias.data) return;
  const int64_t columns = call.groups * call.channels;
  Addends from{call.partial, call.path.parts, 1, 2 * columns, 0, 1, columns};
  if (call.inner > 1) {
    const int64_t splits = call.path.splits;
    from = {call.partial, call.outer, splits, 2 * columns * splits, 2, 2 * splits, 1};
  } else if (!call.path.held) {
    from.data = call.columns;
  }
  finish_columns(from, columns, call.dweight, call.dbias, stream);
}

template <bool kForward, class Call>
void run_call(const Call& call, cudaStream_t stream) {
  using T = typename Call::Computing;
  if (call.elements() == 0) {
    if (!kForward && call.groups * call.channels > 0)
      finish_columns(Addends{}, call.groups * call.channels, call.dweight, call.dbias, stream);
    return;
  }
  constexpr int kHeldWidth = Call::is_narrow ? 8 : kUnit<T>;
  constexpr int kWalkedWidth = !kForward && !Call::is_light ? kUnit<T> : kHeldWidth;
  if (call.path.held) {
    with_width<kHeldWidth>(
        call, [&](auto width) { run_held<T, decltype(width)::value, kForward>(call, stream); });
  } else {
    with_width<kWalkedWidth>(
        call, [&](auto width) { run_walked<T, decltype(width)::value, kForward>(call, stream); });
  }
  if constexpr (!kForward) run_weights(call, stream);
  if constexpr (kForward && Call::template Rule<T>::kCentres)
    if (call.moments)
      start(&move_running_kernel<Call>, ceil_div(call.groups, kWarps), stream, call);
}

template <template <class> class R, bool kForward>
void run_rule(const RowNorm& n, double part) {
  const auto run_as = [&](auto light) {
    constexpr bool kLight = decltype(light)::value;
    const auto stream = static_cast<cudaStream_t>(n.stream);
    switch (stored_of(n.dtype)) {
      case Stored::f64:
        return run_call<kForward>(describe<RowCallOf<R, kLight, Stored::f64>>(n, part), stream);
      case Stored::f32:
        return run_call<kForward>(describe<RowCallOf<R, kLight, Stored::f32>>(n, part), stream);
      case Stored::narrow:
        return run_call<kForward>(describe<RowCallOf<R, kLight, Stored::narrow>>(n, part), stream);
    }
  };
  is_light(n) ? run_as(std::true_type()) : run_as(std::false_type());
}
template <template <class> class R, bool kForward>
void run(const RowNorm& n) {
  const double part = R<double>::part(double(n.row_elements()));
  if constexpr (std::is_same_v<typename KernelsOf<R<double>>::Rule, RmsNormRule<double>>) {
    run_rule<RmsNormRule, kForward>(n, part);
  } else {
    run_rule<R, kForward>(n, part);
  }
}

}  // namespace row_norms

namespace row_norms {
// The call that takes the statistics of a backward call without a forward one; dx holds y.
inline RowNorm statistics_of(const RowNorm& n) {
  RowNorm forward = n;
  forward.y = n.dx;
  forward.dy = forward.dx = nullptr;
  forward.dweight = forward.dbias = {};
  return forward;
}
}  // namespace row_norms

inline int64_t row_norm_workspace(const RowNorm& n) {
  if (n.rows() * n.row_elements() == 0) return 0;
  const int64_t bytes = row_norms::workspace_of(n, row_norms::path_of(n)).all;
  if (!n.takes_statistics || !n.dy) return bytes;
  return larger(bytes, row_norm_workspace(row_norms::statistics_of(n)));
}

// Templates, so that a unit has the kernels of what it names.
template <template <class> class R>
void row_norm(const RowNorm& n) {
  row_norms::run<R, true>(n);
}
template <template <class> class R>
void row_norm_backward(const RowNorm& n) {
  if (n.takes_statistics) row_norms::run<R, true>(row_norms::statistics_of(n));
  row_norms::run<R, false>(n);
}

}  // namespace
ONEPASS_END
