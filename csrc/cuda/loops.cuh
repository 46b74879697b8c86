// The elementwise driver: one launch over a list of tensors of any dtype and layout, for every
// functor (activations, dropout, optimizer updates); two launches if the list mixes float64 with
// others. It composes riders (unscale, clip by value and by norm, skip, zero) with the update in
// registers, and the last block counts the step. The bits are those of the CPU.
#pragma once
#include <algorithm>

#include "core/rule.h"
#include "cuda/stages.cuh"
#include "cuda/table.cuh"
#include "kernels/dropout.h"
#include "kernels/gradient.h"

ONEPASS_BEGIN
namespace {

template <class T>
struct ElementwiseCall {
  TableShape shape;
  DropoutStream random{0, 0, 0};
  PrepareGradient<T> prepare{1, GradientRider::kNoLimit, {1, 1}};
  const NormResult* norm = nullptr;
  double coefficient = 1, max_norm = -1;
  int64_t* steps = nullptr;
  double* scalars = nullptr;
  uint32_t* ticket = nullptr;
  const double* norms = nullptr;
  bool zero_grad = false, skip_nonfinite = false, zero_skipped = true;
  uint64_t seed = 0;  // of stages
};

// The scalars per parameter of an update; other functors have none.
template <class K, int kGradient>
constexpr size_t scalars_of() {
  if constexpr (kGradient >= 0) {
    return kScalars<typename K::rule>;
  } else {
    return 0;
  }
}

// The row of hyper-parameters of an update at the next step of a tensor, which the device counts:
// as the kernel takes it, or with the scalars as they are after the step.
enum class Scalars { of_kernel, after };
template <class K, Scalars kWhich, class T>
ONEPASS_DEVICE void next_row(const ElementwiseCall<T>& call, int32_t counter, double* row) {
  using R = typename K::rule;
  constexpr int kFirst = int(R::hyper.size), kEnd = kFirst + int(kScalars<R>);
  row[kFirst - 1] = double(call.steps[counter] + 1);
  ONEPASS_UNROLL
  for (int s = kFirst; s < kEnd; ++s)
    row[s] = call.scalars[int64_t(counter) * (kEnd - kFirst) + s - kFirst];
  if constexpr (R::advances_first || kWhich == Scalars::after) advance<R>(row);
}

// The riders of a step. Each thread computes them once, since only the device knows the norm.
template <class T>
struct Ride {
  PrepareGradient<T> prepare;
  bool zero_grad, skip;
};
template <class T>
ONEPASS_DEVICE Ride<T> ride(const ElementwiseCall<T>& call) {
  Ride<T> r{call.prepare, call.zero_grad, false};
  if (!call.norm) return r;
  r.skip = call.skip_nonfinite && call.norm->first_nonfinite >= 0;
  if (r.skip && !call.zero_skipped) r.zero_grad = false;
  if (call.max_norm >= 0) {
    Clip clip = clip_to(call.max_norm, call.norm->clamped_norm, call.norm->unit);
    clip.coefficient *= call.coefficient;
    r.prepare.set_coefficient(clip);
  }
  return r;
}

// The functors of a launch; a warp makes each when it first needs it. That of an update is made on
// the device, from its row of hyper-parameters, because only the device may know the step count.
// kStaged: the rows end with the values of stages.
template <class K, class T, int kGradient, bool kStaged = false>
class Functors {
 public:
  ONEPASS_DEVICE Functors(const ElementwiseCall<T>& call, const unsigned char* table)
      : call_(call), table_(table), row_(-1), counter_(-1), step_(0) {}
  template <int kArity>
  ONEPASS_DEVICE void select(const Entry<kArity>& entry) {
    int64_t step = 0;
    if constexpr (counts() || kStaged)
      if (call_.steps) step = call_.steps[entry.number] + 1;
    // Powers are slow. Parameters at the same step may have different scalars.
    const bool same_scalars = scalars_of<K, kGradient>() == 0 || entry.number == counter_;
    if (entry.row != row_ || step != step_ || !same_scalars) {
      row_ = entry.row;
      counter_ = entry.number;
      step_ = step;
      made_.k = make();
    }
    if constexpr (kNorms<K> > 0)
      made_.k.take(call_.norms + int64_t(entry.number) * int64_t(kNorms<K>));
  }
  ONEPASS_DEVICE const K& selected() const { return made_.k; }
  // The stages of the entry that was selected last.
  template <int kArity>
  ONEPASS_DEVICE StageTensor<T> stages(const Entry<kArity>& entry) const {
    constexpr int kHyper = int(K::hyper.size), kOwn = int(Signature<K>::arity);
    double row[kHyper + kStageValues];
    ONEPASS_UNROLL
    for (int h = 0; h < kHyper + kStageValues; ++h) row[h] = row_at(row_)[h];
    if (step_ > 0) row[kHyper + kStageStep] = double(step_);
    const Stages<T> values(row + kHyper, kept_by<T>(made_.k));
    // Rows with a limit are averaged when they keep it.
    const bool limited = values.max_row_norm > 0 && entry.has_rows;
    uint32_t dithers = 0;
    ONEPASS_UNROLL
    for (int o = kGradient + 1; o < kOwn; ++o)
      if (values.dither && entry.dtype(o) == DType::bf16) dithers |= 1u << o;
    return {values,
            {call_.seed, uint32_t(entry.number), values.step},
            entry.dtype(0),
            entry.data[kOwn + kMaster] != nullptr,
            entry.data[kOwn + kAverage] != nullptr && !limited,
            dithers};
  }

 private:
  static constexpr bool counts() {
    if constexpr (kGradient >= 0) {
      return kCountsSteps<typename K::rule>;
    } else {
      return false;
    }
  }
  ONEPASS_DEVICE const double* row_at(int32_t row) const {
    constexpr int kRow = int(K::hyper.size) + (kStaged ? kStageValues : 0);
    return reinterpret_cast<const double*>(table_ + call_.shape.rows) + row * kRow;
  }
  ONEPASS_DEVICE K make() const {
    if constexpr (kGradient < 0) {
      return reinterpret_cast<const K*>(table_ + call_.shape.rows)[row_];
    } else {
      constexpr int kHyper = int(K::hyper.size);
      const double* from = row_at(row_);
      double hyper[kHyper + 1];  // there may be none
      ONEPASS_UNROLL
      for (int h = 0; h < kHyper; ++h) hyper[h] = from[h];
      if constexpr (counts())
        if (step_ > 0) next_row<K, Scalars::of_kernel>(call_, counter_, hyper);
      return make_functor<K, T>(hyper);
    }
  }

  union Made {  // there is none before the first
    unsigned char none[sizeof(K)];
    K k;
    ONEPASS_DEVICE Made() : none{} {}
  };
  const ElementwiseCall<T>& call_;
  const unsigned char* table_;
  int32_t row_, counter_;
  int64_t step_;
  Made made_;
};

// kStaged: stages run around the update, and entries have their operands too.
template <class K, class T, int kGradient, bool kStaged = false>
struct Runner {
  using S = Signature<K>;
  static constexpr int kOwn = int(S::arity), kArity = kOwn + (kStaged ? kStageOperands : 0);
  K k;
  Ride<T> ride;
  std::conditional_t<kStaged, const StageTensor<T>*, std::nullptr_t> stages;

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
  ONEPASS_DEVICE void apply_staged(T* v, StageElement<T> element, int64_t at,
                                   std::index_sequence<I...>) const {
    v[kGradient] = ride.prepare(v[kGradient]);
    v[0] = element.before(at, v[0], v[kOwn + kMaster], &v[kGradient]);
    k(value<I>(v)...);
    v[kOwn + kMaster] = v[0];
    v[0] = element.after(at, &v[kOwn + kMaster], &v[kOwn + kAverage]);
    v[kGradient] = T(0);  // stored if gradients are zeroed
    if constexpr (sizeof(T) == 4) {
      ONEPASS_UNROLL
      for (int o = kGradient + 1; o < kOwn; ++o)
        if (stages->dithers >> o & 1)
          v[o] = stochastic_rounding(
              v[o], DType::bf16,
              dither_bits(uint32_t(at),
                          dither_salt(stages->random.parameter, stages->random.step, uint32_t(o))));
    }
  }
  using Words = std::conditional_t<kStaged, StageWords, NoWords>;
  ONEPASS_DEVICE void apply(T* v, bool kept, int64_t at, Words* words) const {
    if constexpr (kStaged) {
      apply_staged(v, StageElement<T>(*stages, words), at, std::make_index_sequence<S::named>{});
    } else {
      apply(v, kept, std::make_index_sequence<S::named>{});
    }
  }

  ONEPASS_DEVICE void element(const Entry<kArity>& entry, int64_t at, const int64_t* offset,
                              bool kept) const {
    T v[kArity];
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      v[o] = reads(o) && has(entry, o) ? load_element<T>(entry.operand(o), offset[o]) : T(0);
    Words words = words_of(stages);
    apply(v, kept, at, &words);
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      if (stores(entry, o)) store_element<T>(entry.operand(o), offset[o], v[o]);
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
      if (reads(o) && has(entry, o)) raw[o] = fetch<W, T>(entry.operand(o), at);
  }
  template <int W>
  ONEPASS_DEVICE void unit(const Entry<kArity>& entry, int64_t at, const Raw* raw,
                           uint32_t kept) const {
    T v[kArity][W];
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      if (reads(o) && has(entry, o)) decode<W, T>(raw[o], entry.dtype(o), v[o]);
    Words words = words_of(stages);
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) {
      T one[kArity];
      ONEPASS_UNROLL
      for (int o = 0; o < kArity; ++o) one[o] = reads(o) && has(entry, o) ? v[o][w] : T(0);
      apply(one, kept >> w & 1, at + w, &words);
      ONEPASS_UNROLL
      for (int o = 0; o < kArity; ++o) v[o][w] = one[o];
    }
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      if (stores(entry, o)) store_unit<W, T>(entry.operand(o), at, v[o]);
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

// Run by the last block, after all others have read their step. In a rule with scalars the row of
// each counter follows the counters.
template <class K, bool kStaged, class T>
ONEPASS_DEVICE void count_steps(const ElementwiseCall<T>& call, const unsigned char* table) {
  if (!is_last_block(call.ticket)) return;
  using R = typename K::rule;
  const auto* counters = reinterpret_cast<const int32_t*>(table + call.shape.counters);
  const int32_t count = call.shape.counter_count / (kScalars<R> > 0 ? 2 : 1);
  for (int32_t i = int32_t(threadIdx.x); i < count; i += kThreads) {
    if constexpr (kScalars<R> > 0) {
      constexpr int kRow = int(K::hyper.size), kFirst = int(R::hyper.size);
      constexpr int kStride = kRow + (kStaged ? kStageValues : 0);
      const double* from =
          reinterpret_cast<const double*>(table + call.shape.rows) + counters[count + i] * kStride;
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

// Nothing, of a kernel without stages.
template <bool kStaged, class F, class E>
ONEPASS_DEVICE auto stages_of(const F& functors, const E& entry) {
  if constexpr (kStaged) {
    return functors.stages(entry);
  } else {
    return nullptr;
  }
}
template <class T>
ONEPASS_DEVICE const StageTensor<T>* address_of(const StageTensor<T>& stages) {
  return &stages;
}
ONEPASS_DEVICE std::nullptr_t address_of(std::nullptr_t) { return nullptr; }

template <class K, class T, int kGradient, bool kStaged, bool kStrided>
ONEPASS_DEVICE void walk_tiles(const ElementwiseCall<T>& call, const unsigned char* bytes) {
  using R = Runner<K, T, kGradient, kStaged>;
  const Ride<T> riding = ride(call);
  if (riding.skip && !riding.zero_grad) return;
  Functors<K, T, kGradient, kStaged> functors(call, bytes);
  const int tile = call.shape.tile;
  for (TileWalk<R::kArity> walk(call.shape, bytes); walk.has_tile(); walk.next()) {
    const Entry<R::kArity>& entry = walk.entry();
    const int64_t begin = walk.begin();
    if (walk.is_new()) functors.select(entry);
    const auto stages = stages_of<kStaged>(functors, entry);
    const R run{functors.selected(), riding, address_of(stages)};
    uint32_t word = 0;
    bool drawn = false;
    const auto draw = [&] {
      if constexpr (R::S::draws) {
        if (!drawn) word = keep_word_of_lane(call.random, begin / 32);
        drawn = true;
      }
      return word;
    };
    if (entry.path == Path::units) run.template units<kUnit<T>>(entry, begin, tile, draw);
    if constexpr (sizeof(T) == 4)
      if (entry.path == Path::narrow_units) run.template units<8>(entry, begin, tile, draw);
    ONEPASS_NO_UNROLL
    for (int i = 0; i < 2; ++i) {
      const Range range = rest_of_tile<T>(entry, begin, tile, i);
      if (range.from < range.to)
        run.template elements<kStrided>(entry, bytes, begin, range, draw());
    }
  }
  if constexpr (kGradient >= 0)
    if (call.shape.counter_count > 0 && !riding.skip) count_steps<K, kStaged>(call, bytes);
}

template <class K, class T, int kGradient, bool kStrided, int64_t kBytes>
__global__ void __launch_bounds__(kThreads, 2)
    elementwise_kernel(const __grid_constant__ ElementwiseCall<T> call,
                       const __grid_constant__ Table<kBytes> table) {
  walk_tiles<K, T, kGradient, false, kStrided>(call, table.data());
}
// Stages take more registers.
template <class K, class T, int kGradient, bool kStrided, int64_t kBytes>
__global__ void __launch_bounds__(kThreads, 1)
    staged_kernel(const __grid_constant__ ElementwiseCall<T> call,
                  const __grid_constant__ Table<kBytes> table) {
  walk_tiles<K, T, kGradient, true, kStrided>(call, table.data());
}

// ---- host

// The rows of a call's table: functors, or the hyper-parameters of updates.
template <class K, class T>
std::vector<K> rows_of(const Elementwise& call, std::false_type) {
  std::vector<K> made;
  if constexpr (Signature<K>::draws) {
    made.push_back(K{dropout_scale<T>(call.random.threshold)});
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
    found.emplace_back(int32_t(call.tensors[t].counter), call.tensors[t].hyper_set);
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

template <class T>
ElementwiseCall<T> arguments_of(const Elementwise& call, const TableShape& shape) {
  const GradientRider& rider = call.rider;
  ElementwiseCall<T> arguments;
  arguments.shape = shape;
  arguments.random = call.random;
  arguments.prepare = {rider.unscale, rider.max_value, {rider.coefficient, rider.rest}};
  arguments.norm = rider.norm;
  arguments.coefficient = rider.coefficient;
  arguments.max_norm = rider.max_norm;
  arguments.steps = rider.steps;
  arguments.scalars = rider.scalars;
  arguments.ticket = rider.ticket;
  arguments.norms = call.norms;
  arguments.zero_grad = rider.zero_grad;
  arguments.skip_nonfinite = rider.skip_nonfinite;
  arguments.zero_skipped = rider.zero_skipped;
  arguments.seed = call.stages.seed;
  return arguments;
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
// launch.
template <class K, class T, int kGradient, bool kStaged>
void elementwise_as(const Elementwise& call, const std::vector<int32_t>& counters) {
  using R = Runner<K, T, kGradient, kStaged>;
  constexpr bool kUpdates = kGradient >= 0;
  TableBuilder<T, R::kArity> builder(R::S::draws || call.stages.in_order);
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
        [](const Tensor& t, int64_t) { return t.counter; });
    if (builder.empty() && counters.empty()) return;
    if (rows.empty()) rows = rows_of<K, T>(call, std::bool_constant<kUpdates>());
    const auto& bytes = builder.finish(rows, counters);
    const ElementwiseCall<T> arguments = arguments_of<T>(call, builder.shape());
    const auto run = [&](auto strided, const auto& table) {
      constexpr int64_t kBytes = std::decay_t<decltype(table)>::kBytes;
      const auto kernel = kernel_of<K, T, kGradient, kStaged, decltype(strided)::value, kBytes>();
      start(kernel, persistent_blocks(kernel, arguments.shape.tiles), stream, arguments, table);
    };
    const auto dense = [&](const auto& table) { run(std::false_type(), table); };
    const auto strided = [&](const auto& table) { run(std::true_type(), table); };
    const bool is_strided = arguments.shape.strided;
    if constexpr (kStaged) {  // one kernel for all lists: each takes long to compile
      with_table<false>(bytes, call.workspace, stream, strided);
    } else if constexpr (kUpdates) {
      if (is_strided) {
        with_table<false>(bytes, call.workspace, stream, strided);
      } else {
        with_table<sizeof(T) == 4>(bytes, call.workspace, stream, dense);
      }
    } else if (int64_t(bytes.size()) > kSmallTable) {
      record_error("too many rows of hyper-parameters");
    } else if (is_strided) {
      with_inline_table<kSmallTable>(bytes, strided);
    } else {
      with_inline_table<kSmallTable>(bytes, dense);
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
  elementwise_as<K<float>, float, kGradient, kStaged>(call,
                                                      two ? std::vector<int32_t>() : counters);
  if (two) elementwise_as<K<double>, double, kGradient, kStaged>(call, counters);
}

template <template <class> class K, int kGradient>
void elementwise(const Elementwise& call) {
  if constexpr (kGradient >= 0)
    if (call.stages.active) return elementwise_staged<K, kGradient, true>(call);
  elementwise_staged<K, kGradient, false>(call);
}

}  // namespace
ONEPASS_END
