// The driver of norms for each tensor: runs a measuring functor (core/rule.h) over a list of
// tensors, which may write operands as an update does, and leaves the 2-norms of its terms in
// Elementwise::norms. Two launches, whatever the number of tensors; four if the list mixes float64
// with others. In the first a warp adds the squares of a tile, which is a block of core/squares.h,
// in the second a block adds the tiles of a tensor. The bits are those of the CPU.
#pragma once
#include "cuda/columns.cuh"
#include "cuda/loops.cuh"
#include "cuda/table_builder.cuh"

ONEPASS_BEGIN
namespace {
namespace tensor_norms {

// The sums of one tile. Units of W elements, kSlots / W of each lane in a row of columns.
template <class K, class T, int kGradient, int W>
struct Tile {
  using S = Signature<K>;
  using R = Runner<K, T, kGradient>;
  static constexpr int kArity = int(S::arity), kTerms = int(S::terms);
  static constexpr int kUnits = kSlots / W;
  // Units on their way at once: as many as the registers hold beside the columns.
  static constexpr int kTogether = kArity > 3 || kUnits < 2 ? 1 : 2;
  using Sums = double[kTerms][kMeasures<T>][kSlots];

  const K& k;
  const PrepareGradient<T>& prepare;
  const Entry<kArity>& entry;

  template <size_t... I>
  ONEPASS_DEVICE Terms<T, S::terms> apply(T* v, std::index_sequence<I...>) const {
    return Ridden<K, T, false>{k, prepare}(R::template value<I>(v)...);
  }
  template <int kMeasure = 0>
  ONEPASS_DEVICE void add(T term, double (*sums)[kSlots], int slot) const {
    sums[kMeasure][slot] += square<kMeasure>(term);
    if constexpr (kMeasure + 1 < kMeasures<T>) add<kMeasure + 1>(term, sums, slot);
  }
  ONEPASS_DEVICE void element(T* v, Sums& sums, int slot) const {
    const Terms<T, S::terms> found = apply(v, std::make_index_sequence<S::named>{});
    ONEPASS_UNROLL
    for (int s = 0; s < kTerms; ++s) add(found.at[s], sums[s], slot);
  }
  ONEPASS_DEVICE void lone(const int64_t* offset, Sums& sums, int slot) const {
    T v[kArity];
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      v[o] = S::reads(size_t(o)) ? load_element<T>(entry.operand(o), offset[o]) : T(0);
    element(v, sums, slot);
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      if (S::writes(size_t(o))) store_element<T>(entry.operand(o), offset[o], v[o]);
  }
  ONEPASS_DEVICE void unit(int64_t at, const Raw* raw, Sums& sums, int first_slot) const {
    T v[kArity][W];
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      if (S::reads(size_t(o))) decode<W, T>(raw[o], entry.dtype(o), v[o]);
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) {
      T one[kArity];
      ONEPASS_UNROLL
      for (int o = 0; o < kArity; ++o) one[o] = S::reads(size_t(o)) ? v[o][w] : T(0);
      element(one, sums, first_slot + w);
      ONEPASS_UNROLL
      for (int o = 0; o < kArity; ++o) v[o][w] = one[o];
    }
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o)
      if (S::writes(size_t(o))) store_unit<W, T>(entry.operand(o), at, v[o]);
  }

  // The elements from `begin` on, dense and aligned.
  ONEPASS_DEVICE void units(int64_t begin, Sums& sums) const {
    ONEPASS_NO_UNROLL
    for (int row = 0; row < int(kTile) / kColumns; ++row) {
      ONEPASS_UNROLL
      for (int first = 0; first < kUnits; first += kTogether) {
        Raw raw[kTogether][kArity];
        int64_t at[kTogether];
        ONEPASS_UNROLL
        for (int j = 0; j < kTogether; ++j) {
          at[j] = begin + row * kColumns +
                  int64_t(((first + j) * kWarpSize + lane_of(threadIdx.x)) * W);
          if (at[j] + W > entry.size) continue;
          ONEPASS_UNROLL
          for (int o = 0; o < kArity; ++o)
            if (S::reads(size_t(o))) raw[j][o] = fetch<W, T>(entry.operand(o), at[j]);
        }
        ONEPASS_UNROLL
        for (int j = 0; j < kTogether; ++j) {
          if (at[j] + W <= entry.size) {
            unit(at[j], raw[j], sums, (first + j) * W);
            continue;
          }
          ONEPASS_UNROLL
          for (int w = 0; w < W; ++w) {  // the tensor ends within the unit
            if (at[j] + w >= entry.size) break;
            int64_t offset[kArity];
            ONEPASS_UNROLL
            for (int o = 0; o < kArity; ++o) offset[o] = at[j] + w;
            lone(offset, sums, (first + j) * W + w);
          }
        }
      }
    }
  }
  template <bool kStrided>
  ONEPASS_DEVICE void elements(const unsigned char* table, int64_t begin, Sums& sums) const {
    static_assert(W == 1, "one by one");
    ONEPASS_NO_UNROLL
    for (int row = 0; row < int(kTile) / kColumns; ++row) {
      ONEPASS_UNROLL
      for (int j = 0; j < kUnits; ++j) {
        const int64_t at = begin + row * kColumns + j * kWarpSize + lane_of(threadIdx.x);
        if (at >= entry.size) continue;
        int64_t offset[kArity];
        offsets_of<kStrided>(entry, table, at, offset);
        lone(offset, sums, j);
      }
    }
  }

  ONEPASS_DEVICE void store(Sums& sums, int64_t tiles, double* to) const {
    ONEPASS_UNROLL
    for (int s = 0; s < kTerms; ++s) {
      ONEPASS_UNROLL
      for (int m = 0; m < kMeasures<T>; ++m) {
        const double sum = fold_columns<W>(sums[s][m]);
        if (lane_of(threadIdx.x) == 0) to[int64_t(s * kMeasures<T> + m) * tiles] = sum;
      }
    }
  }
};

// Blocks of a multiprocessor. Where two would spill registers, one.
template <class T, size_t kTerms, bool kStrided>
constexpr int kMeasuringBlocks = sizeof(T) == 8 || kTerms > 1 || kStrided ? 1 : 2;

// `sums`: a row for each term and measure, with a sum for each tile.
template <class K, class T, int kGradient, bool kStrided, int64_t kBytes>
__global__ void __launch_bounds__(kThreads, kMeasuringBlocks<T, Signature<K>::terms, kStrided>)
    measure_kernel(const __grid_constant__ ElementwiseCall<T> call,
                   const __grid_constant__ Table<kBytes> table, double* sums) {
  constexpr int kArity = int(Signature<K>::arity), kTerms = int(Signature<K>::terms);
  const TableView view = table.view(call.shape);
  const Ride<T> riding = ride(call);
  if (riding.skip) return;
  Functors<K, T, kGradient> functors(call, view);
  for (TileWalk<kArity, kGradient> walk(call.shape, view); walk.has_tile(); walk.next()) {
    const Entry<kArity>& entry = walk.entry();
    const int64_t begin = walk.begin();
    if (walk.is_new()) functors.select(entry);
    double* to = sums + entry.first_tile + begin / kTile;
    const auto run = [&](auto width) {
      const Tile<K, T, kGradient, decltype(width)::value> tile{functors.selected(), riding.prepare,
                                                               entry};
      double found[kTerms][kMeasures<T>][kSlots];
      ONEPASS_UNROLL
      for (int s = 0; s < kTerms; ++s) ONEPASS_UNROLL
      for (int m = 0; m < kMeasures<T>; ++m) ONEPASS_UNROLL
      for (int c = 0; c < kSlots; ++c) found[s][m][c] = 0;
      if constexpr (decltype(width)::value == 1) {
        tile.template elements<kStrided>(view.fixed(), begin, found);
      } else {
        tile.units(begin, found);
      }
      tile.store(found, call.shape.tiles, to);
    };
    if (entry.path == Path::units) run(std::integral_constant<int, kUnit<T>>());
    if constexpr (sizeof(T) == 4)
      if (entry.path == Path::narrow_units) run(std::integral_constant<int, 8>());
    if (entry.path == Path::elements) run(std::integral_constant<int, 1>());
  }
}

// A block for each tensor, a thread for each column.
template <class T, int kArity, int kTerms, int64_t kBytes>
__global__ void __launch_bounds__(kThreads, 2)
    finish_kernel(const __grid_constant__ TableShape shape,
                  const __grid_constant__ Table<kBytes> table, const double* sums, double* norms) {
  ONEPASS_SHARED(double, columns, [kColumns]);
  const auto* entries = reinterpret_cast<const Entry<kArity>*>(table.view(shape).fixed());
  const Entry<kArity>& entry = entries[blockIdx.x];
  const int64_t first = entry.first_tile, end = entries[blockIdx.x + 1].first_tile;
  double measures[kMeasures<T>];
  ONEPASS_NO_UNROLL
  for (int s = 0; s < kTerms; ++s) {
    ONEPASS_UNROLL
    for (int m = 0; m < kMeasures<T>; ++m) {
      const double* row = sums + int64_t(s * kMeasures<T> + m) * shape.tiles;
      measures[m] = sum_of_columns(row, first, end, columns);
    }
    if (threadIdx.x == 0) norms[int64_t(entry.number) * kTerms + s] = norm_of<T>(measures);
  }
}

// ---- host

inline int64_t sum_bytes(const Elementwise& call, int64_t norms) {
  int64_t tiles = 0;
  for (int64_t t = 0; t < call.count; ++t)
    tiles += ceil_div(call.tensors[t].size, kTile) *
             (call.tensors[t].computing == DType::f64 ? kMeasures<double> : kMeasures<float>);
  return ceil_div(tiles * norms * int64_t(sizeof(double)), 16) * 16;
}

template <class K, class T, int kGradient>
void measure_as(const Elementwise& call, int64_t* taken) {
  constexpr int kArity = int(Signature<K>::arity), kTerms = int(Signature<K>::terms);
  TableBuilder<T, kArity> builder(true);
  builder.fill(
      call.tensors, 0, call.count, int64_t(1) << 30, 0, [](const Tensor& t) { return t.operands; },
      [](const Tensor& t, int64_t) { return t.parameter; });
  if (builder.empty()) return;
  const std::vector<double> rows(call.hyper, call.hyper + call.hyper_rows * call.hyper_size);
  builder.finish(rows, {});
  const auto stream = static_cast<cudaStream_t>(call.stream);
  auto* sums = static_cast<double*>(call.workspace);
  const auto run = [&](auto strided, const auto& table, const TableShape& shape) {
    constexpr int64_t kBytes = std::decay_t<decltype(table)>::kBytes;
    const auto kernel = &measure_kernel<K, T, kGradient, decltype(strided)::value, kBytes>;
    start(kernel, persistent_blocks(kernel, shape.tiles), stream, arguments_of<T>(call, shape),
          table, sums);
    start(&finish_kernel<T, kArity, kTerms, kBytes>, shape.entries, stream, shape, table, sums,
          call.norms);
  };
  const auto room = TableRoom::of<T>(call, *taken);
  constexpr bool kSmall = sizeof(T) == 4;
  const auto strided = [&](const auto& table, const TableShape& shape) {
    run(std::true_type(), table, shape);
  };
  const auto dense = [&](const auto& table, const TableShape& shape) {
    run(std::false_type(), table, shape);
  };
  *taken += builder.shape().strided ? with_table<false>(builder, kGradient, room, stream, strided)
                                    : with_table<kSmall>(builder, kGradient, room, stream, dense);
}

template <template <class> class M, int kGradient>
void measure(const Elementwise& call) {
  if (!call.workspace) return record_error("measuring tensors needs a workspace");
  constexpr auto kTerms = int64_t(Signature<M<float>>::terms);
  int64_t taken = sum_bytes(call, kTerms);
  measure_as<M<float>, float, kGradient>(call, &taken);
  if (has_any<double>(call.tensors, call.count))
    measure_as<M<double>, double, kGradient>(call, &taken);
}

}  // namespace tensor_norms
}  // namespace
ONEPASS_END
