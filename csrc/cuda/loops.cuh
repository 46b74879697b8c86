// The elementwise driver: one launch over a list of tensors of any dtype and layout, for every
// functor (activations, dropout, optimizer updates); two launches if the list mixes float64 with
// others. It composes riders (unscale, clip by value and by norm, skip, zero) with the update in
// registers, and the last block counts the step. The bits are those of the CPU.
#pragma once
#include <algorithm>

#include "cuda/runner.cuh"
#include "cuda/table_builder.cuh"

ONEPASS_BEGIN
namespace {

// Run by the last block, after all others have read their step. In a rule with scalars the row of
// each counter follows the counters.
template <class K, bool kStaged, class T>
ONEPASS_DEVICE void count_steps(const ElementwiseCall<T>& call, const TableView& table) {
  if (!is_last_block(call.ticket)) return;
  using R = typename K::rule;
  const auto* counters = reinterpret_cast<const int32_t*>(table.fixed() + call.shape.counters);
  const int32_t count = call.shape.counter_count / (kScalars<R> > 0 ? 2 : 1);
  for (int32_t i = int32_t(threadIdx.x); i < count; i += kThreads) {
    if constexpr (kScalars<R> > 0) {
      constexpr int kRow = int(K::hyper.size), kFirst = int(R::hyper.size);
      constexpr int kStride = kRow + (kStaged ? kStageValues : 0);
      const double* from = reinterpret_cast<const double*>(current_rows(call, table)) +
                           counters[count + i] * kStride;
      double row[kRow];
      ONEPASS_UNROLL
      for (int h = 0; h < kRow; ++h) row[h] = from[h];
      next_row<K, Scalars::after>(call, counters[i], row);
      ONEPASS_UNROLL
      for (int s = kFirst; s < kRow; ++s)
        call.scalars[int64_t(counters[i]) * (kRow - kFirst) + s - kFirst] = row[s];
    }
    ++call.steps[counters[i]];
  }
}

// In shared memory where there are stages: they leave few registers.
template <bool kStaged, class T>
ONEPASS_DEVICE decltype(auto) ride_of_block(const ElementwiseCall<T>& call) {
  if constexpr (kStaged) {
    ONEPASS_SHARED(typename Ride<T>::Plain, room, );
    static_assert(sizeof(typename Ride<T>::Plain) == sizeof(Ride<T>));
    auto& shared = reinterpret_cast<Ride<T>&>(room);
    if (threadIdx.x == 0) shared = ride(call);
    block_sync();
    return static_cast<const Ride<T>&>(shared);
  } else {
    return ride(call);
  }
}

// This warp's shared memory for the stages of its tensor; null in kernels without them.
template <bool kStaged, class T>
ONEPASS_DEVICE auto stages_of_warp() {
  if constexpr (kStaged) {
    ONEPASS_SHARED(StageTensor<T>, stages, [kWarps]);
    return &stages[warp_of(threadIdx.x)];
  } else {
    return nullptr;
  }
}
template <class F, class E, class T>
ONEPASS_DEVICE void leave_stages(const F& functors, const E& entry, StageTensor<T>* to) {
  warp_sync(kFullWarp);  // other lanes may still read those of the tensor before
  if (lane_of(threadIdx.x) == 0) functors.stages(entry, to);
  warp_sync(kFullWarp);
}
template <class F, class E>
ONEPASS_DEVICE void leave_stages(const F&, const E&, std::nullptr_t) {}

// This warp's shared memory for the states of a tile; null in kernels without codes.
template <class R>
ONEPASS_DEVICE float* block_of_warp() {
  if constexpr (R::kMayBeCoded) {
    ONEPASS_SHARED(float, blocks, [kWarps][R::kStates * int(kCodeBlock)]);
    return blocks[warp_of(threadIdx.x)];
  } else {
    return nullptr;
  }
}
template <Way kWay, class R>
ONEPASS_DEVICE void move_codes(const typename R::Walk& walk, const R& run) {
  if constexpr (R::kMayBeCoded) {
    if (!run.block) return;
    if (kWay == Way::encode) warp_sync(kFullWarp);
    move_block<kWay, R::kFirstState, R::kStates>(walk, run.stages->salts, run.block);
    warp_sync(kFullWarp);  // lanes have other elements in the update
  }
}

template <class K, class T, int kGradient, bool kStaged, bool kStrided>
ONEPASS_DEVICE void walk_tiles(const ElementwiseCall<T>& call, const TableView& table) {
  using R = Runner<K, T, kGradient, kStaged>;
  const auto& riding = ride_of_block<kStaged>(call);
  if (riding.skip && !riding.zero_grad) return;
  Functors<K, T, kGradient, kStaged> functors(call, table);
  const int tile = call.shape.tile;
  const auto stages = stages_of_warp<kStaged, T>();
  float* const block = block_of_warp<R>();
  for (typename R::Walk walk(call.shape, table); walk.has_tile(); walk.next()) {
    const Entry<R::kArity>& entry = walk.entry();
    const int64_t begin = walk.begin();
    if (walk.is_new()) {
      functors.select(entry);
      leave_stages(functors, entry, stages);
    }
    const bool coded = R::kMayBeCoded && is_coded(entry.dtype(R::kFirstState));
    const R run{functors.selected(), riding, stages, coded ? block : nullptr};
    move_codes<Way::decode>(walk, run);
    uint32_t word = 0;
    bool drawn = false;
    const auto draw = [&] {
      if constexpr (R::S::draws) {
        if (drawn) return word;
        if constexpr (kRepeats<K>) {
          word = repeated_word_of_lane(call.random, begin, call.repeat);
        } else {
          word = aligned_word_of_lane(call.random, begin / 32);
        }
        drawn = true;
      }
      return word;
    };
    if (entry.path == Path::units) run.template units<kUnit<T>>(entry, begin, tile, draw);
    if constexpr (sizeof(T) == 4 && !kStaged)
      if (entry.path == Path::narrow_units) run.template units<8>(entry, begin, tile, draw);
    ONEPASS_NO_UNROLL
    for (int i = 0; i < 2; ++i) {
      const Range range = rest_of_tile<T>(entry, begin, tile, i);
      if (range.from < range.to)
        run.template elements<kStrided>(entry, table.fixed(), begin, range, draw());
    }
    if (!riding.skip) move_codes<Way::encode>(walk, run);
  }
  if constexpr (kGradient >= 0)
    if (call.shape.counter_count > 0 && !riding.skip) count_steps<K, kStaged>(call, table);
}

// Two blocks of a multiprocessor have 128 registers for each thread. nvcc takes what it is given:
// of four floats each, fewer are enough.
template <class K, class T, bool kStrided>
constexpr int kBlocks = sizeof(T) == 8 && kStrided ? 1 : 2;
template <class K, class T, bool kStrided>
constexpr int kRegisters = sizeof(T) == 4 && !kStrided && Signature<K>::arity <= 4 ? 104
                           : kBlocks<K, T, kStrided> == 1                          ? 255
                                                                                   : 128;
template <class K, class T, int kGradient, bool kStrided, int64_t kBytes>
__global__ void ONEPASS_REGISTERS((kRegisters<K, T, kStrided>), kThreads, (kBlocks<K, T, kStrided>))
    elementwise_kernel(const __grid_constant__ ElementwiseCall<T> call,
                       const __grid_constant__ Table<kBytes> table) {
  walk_tiles<K, T, kGradient, false, kStrided>(call, table.view(call.shape));
}
template <class K, class T, int kGradient, bool kStrided, int64_t kBytes>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 && !kStrided ? 2 : 1)
    staged_kernel(const __grid_constant__ ElementwiseCall<T> call,
                  const __grid_constant__ Table<kBytes> table) {
  walk_tiles<K, T, kGradient, true, kStrided>(call, table.view(call.shape));
}

// ---- host

// The rows of a call's table: functors, or the hyper-parameters of updates.
template <class K, class T>
std::vector<K> rows_of(const Elementwise& call, std::false_type) {
  std::vector<K> made;
  if constexpr (Signature<K>::draws) {
    made.push_back(K::of(call.random.threshold));
  } else {
    for (int64_t r = 0; r < larger(1, call.hyper_rows); ++r)
      made.push_back(make_functor<K, T>(call.hyper + r * call.hyper_size));
  }
  return made;
}
template <class K, class T>
std::vector<double> rows_of(const Elementwise& call, std::true_type) {
  return {call.hyper, call.hyper + call.hyper_rows * call.hyper_size};
}

// The counters of all tensors, each once, in ascending order; with_rows adds the row of each.
inline std::vector<int32_t> counters_of(const Elementwise& call, bool with_rows) {
  std::vector<std::pair<int32_t, int32_t>> found;
  for (int64_t t = 0; t < call.count; ++t)
    found.emplace_back(int32_t(call.tensors[t].parameter), call.tensors[t].hyper_set);
  const auto before = [](const auto& a, const auto& b) { return a.first < b.first; };
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
  std::stable_sort(found.begin(), found.end(), before);
  found.erase(std::unique(found.begin(), found.end(), same), found.end());
  std::vector<int32_t> counters;
  for (const auto& f : found) counters.push_back(f.first);
  if (with_rows)
    for (const auto& f : found) counters.push_back(f.second);
  return counters;
}

template <class K, class T, int kGradient, bool kStaged, bool kStrided, int64_t kBytes>
auto kernel_of() {
  if constexpr (kStaged) {
    return &staged_kernel<K, T, kGradient, kStrided, kBytes>;
  } else {
    return &elementwise_kernel<K, T, kGradient, kStrided, kBytes>;
  }
}

// Launches the tensors of one computing type. `counters` are those whose step ends with this
// launch. `taken`: the bytes of the workspace that tables have.
template <class K, class T, int kGradient, bool kStaged>
void elementwise_as(const Elementwise& call, const std::vector<int32_t>& counters, int64_t* taken) {
  using R = Runner<K, T, kGradient, kStaged>;
  constexpr bool kUpdates = kGradient >= 0;
  TableBuilder<T, R::kArity> builder(R::S::draws || call.stages.in_order, !kStaged);
  const auto stream = static_cast<cudaStream_t>(call.stream);
  decltype(rows_of<K, T>(call, std::bool_constant<kUpdates>())) rows;
  // Updates come in long lists; other calls have one tensor, or are cut into several launches.
  const int64_t limit = kUpdates ? int64_t(1) << 30 : kSmallTable;
  int64_t first = 0;
  do {
    const int64_t row_bytes = larger(1, call.hyper_rows) * int64_t(sizeof(K));
    first = builder.fill(
        call.tensors, first, call.count, limit, row_bytes,
        [](const Tensor& t) { return t.operands; },
        [](const Tensor& t, int64_t) { return t.parameter; });
    if (builder.empty() && counters.empty()) return;
    if (rows.empty()) rows = rows_of<K, T>(call, std::bool_constant<kUpdates>());
    const auto& bytes = builder.finish(rows, counters);
    const auto run = [&](auto strided, const auto& table, const TableShape& shape) {
      constexpr int64_t kBytes = std::decay_t<decltype(table)>::kBytes;
      const auto kernel = kernel_of<K, T, kGradient, kStaged, decltype(strided)::value, kBytes>();
      start(kernel, persistent_blocks(kernel, shape.tiles), stream, arguments_of<T>(call, shape),
            table);
    };
    const auto dense = [&](const auto& table, const TableShape& shape) {
      run(std::false_type(), table, shape);
    };
    const auto strided = [&](const auto& table, const TableShape& shape) {
      run(std::true_type(), table, shape);
    };
    const bool is_strided = builder.shape().strided;
    if constexpr (kUpdates) {
      constexpr bool kOnlyStrided = kStaged && sizeof(T) == 8;  // a kernel takes long to compile
      const auto room = TableRoom::of<T>(call, *taken);
      if (is_strided || kOnlyStrided) {
        *taken += with_table<false>(builder, kGradient, room, stream, strided);
      } else if constexpr (!kOnlyStrided) {
        constexpr bool kSmall = sizeof(T) == 4 && !kStaged;
        *taken += with_table<kSmall>(builder, kGradient, room, stream, dense);
      }
    } else if (int64_t(bytes.size()) > kSmallTable) {
      record_error("too many rows of hyper-parameters");
    } else {
      const auto launched = [&](const auto& table) {
        is_strided ? strided(table, builder.shape()) : dense(table, builder.shape());
      };
      with_inline_table<kSmallTable>(bytes, launched);
    }
  } while (first < call.count);
}

template <template <class> class K, int kGradient, bool kStaged>
void elementwise_staged(const Elementwise& call) {
  std::vector<int32_t> counters;
  if (kGradient >= 0 && call.rider.steps) {
    constexpr bool kHasScalars = scalars_of<K<float>, kGradient>() > 0;
    if (!call.rider.ticket) return record_error("counting steps needs a ticket");
    if (kHasScalars && !call.rider.scalars)
      return record_error("counting steps of this rule needs its scalars");
    counters = counters_of(call, kHasScalars);
  }
  // The last launch counts the steps, after all tensors are done.
  const bool two = has_any<double>(call.tensors, call.count);
  int64_t taken = 0;
  elementwise_as<K<float>, float, kGradient, kStaged>(call, two ? std::vector<int32_t>() : counters,
                                                      &taken);
  if (two) elementwise_as<K<double>, double, kGradient, kStaged>(call, counters, &taken);
}

template <template <class> class K, int kGradient>
void elementwise(const Elementwise& call) {
  if constexpr (kGradient >= 0)
    if (call.stages.active) return elementwise_staged<K, kGradient, true>(call);
  elementwise_staged<K, kGradient, false>(call);
}

}  // namespace
ONEPASS_END
