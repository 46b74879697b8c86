// The driver of factors (core/rule.h): two launches, whatever the number of tensors; four if the
// list mixes float64 with others. In the first a warp adds up the squares of a tile, in the second
// blocks add the tiles of a matrix and take the states to their next values. core/factors.h says in
// which order; the bits are those of the CPU.
#pragma once
#include "core/factors.h"
#include "cuda/functors.cuh"
#include "cuda/table_builder.cuh"

ONEPASS_BEGIN
namespace {
namespace factors {

static_assert(kLanes == kWarpSize && kColumns == kThreads, "a lane of a sum is a thread");
constexpr int kTileColumns = int(kStrip) / kWarpSize;  // of a lane
constexpr int64_t kVectorElements = 4 * kThreads;      // of a block
constexpr int kArity = 2;                              // of an entry: parameter, gradient

// The data of a tensor beside its Entry.
struct Matrices {
  int64_t first_tile, first_job, first_sum;
  int64_t size, height, width;
  Memory rows, columns;
  char* levelled;

  ONEPASS_HD FactorCut cut() const { return FactorCut(size, height, width); }
  // One job for the rows of a matrix, and one for each kThreads columns.
  ONEPASS_HD int64_t jobs_of_matrix() const { return 1 + ceil_div(width, kThreads); }
};

// The last entry whose first tile or job, which `first` names, is not behind `number`.
ONEPASS_DEVICE int32_t place_of(const Matrices* all, int32_t count, int64_t Matrices::* first,
                                int64_t number) {
  int32_t low = 0, high = count;
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    (all[middle].*first <= number ? low : high) = middle;
  }
  return low;
}

ONEPASS_DEVICE Entry<kArity> entry_at(const TableView& table, int32_t place) {
  Entry<kArity> entry = reinterpret_cast<const Entry<kArity>*>(table.fixed())[place];
  if (auto* const addresses = table.addresses()) entry.data[kGrad] = addresses[place];
  return entry;
}

// Element `at` of the gradient, as the update sees it.
template <class T>
ONEPASS_DEVICE double square_at(const Entry<kArity>& entry, const unsigned char* table,
                                const PrepareGradient<T>& prepare, int64_t at) {
  int64_t offset[kArity];
  offsets_of<true>(entry, table, at, offset);
  const auto g = double(prepare(load_element<T>(entry.operand(kGrad), offset[kGrad])));
  return g * g;
}

template <class T, int64_t kBytes>
__global__ void __launch_bounds__(kThreads, 2)
    sum_kernel(const __grid_constant__ ElementwiseCall<T> call,
               const __grid_constant__ Table<kBytes> table, double* all_sums) {
  const TableView view = table.view(call.shape);
  const unsigned char* bytes = view.fixed();
  const Ride<T> riding = ride(call);
  if (riding.skip) return;
  const auto* all = reinterpret_cast<const Matrices*>(bytes + call.shape.counters);
  const int lane = lane_of(threadIdx.x);
  const int64_t tiles = all[call.shape.entries].first_tile;
  for (int64_t tile = int64_t(blockIdx.x) * kWarps + warp_of(threadIdx.x); tile < tiles;
       tile += int64_t(gridDim.x) * kWarps) {
    const int32_t place = place_of(all, call.shape.entries, &Matrices::first_tile, tile);
    const Entry<kArity> entry = entry_at(view, place);
    const FactorCut cut = all[place].cut();
    double* sums = all_sums + all[place].first_sum;
    const int64_t local = tile - all[place].first_tile, strip = local % cut.strips;
    const int64_t band = local / cut.strips % cut.bands, matrix = local / cut.strips / cut.bands;
    const int64_t first = strip * kStrip + lane;
    const int64_t end_row = smaller((band + 1) * cut.band, cut.height);
    double columns[kTileColumns];
    ONEPASS_UNROLL
    for (int j = 0; j < kTileColumns; ++j) columns[j] = 0;
    ONEPASS_NO_UNROLL
    for (int64_t r = band * cut.band; r < end_row; ++r) {
      const int64_t row = matrix * cut.height + r;
      double sum = 0;
      ONEPASS_UNROLL
      for (int j = 0; j < kTileColumns; ++j) {
        const int64_t c = first + j * kWarpSize;
        if (c >= cut.width) continue;
        const double square = square_at(entry, bytes, riding.prepare, row * cut.width + c);
        columns[j] += square;
        sum += square;
      }
      ONEPASS_UNROLL
      for (int bit = kWarpSize / 2; bit > 0; bit /= 2) sum += warp_shuffle_xor(kFullWarp, sum, bit);
      if (lane == 0) sums[cut.row_sum(row, strip)] = sum;
    }
    ONEPASS_UNROLL
    for (int j = 0; j < kTileColumns; ++j) {
      const int64_t c = first + j * kWarpSize;
      if (c < cut.width) sums[cut.column_sum(matrix, band, c)] = columns[j];
    }
  }
}

// The next value of a state, as it is held.
template <class K, class T>
ONEPASS_DEVICE T move(const K& k, const Memory& state, int64_t at, double mean) {
  store_element<T>(state, at, k(load_element<T>(state, at), mean));
  return load_element<T>(state, at);
}
ONEPASS_DEVICE double total_of(const double* sums, int64_t count, int64_t stride) {
  double total = sums[0];
  ONEPASS_NO_UNROLL
  for (int64_t i = 1; i < count; ++i) total += sums[i * stride];
  return total;
}

template <class K, class T>
ONEPASS_DEVICE void finish_rows(const K& k, const Matrices& own, const FactorCut& cut,
                                const double* sums, int64_t matrix) {
  ONEPASS_SHARED(double, columns, [kColumns]);
  const int thread = int(threadIdx.x);
  const int64_t first = matrix * cut.height;
  double sum = 0;
  for (int64_t r = thread; r < cut.height; r += kThreads) {
    const double total = total_of(sums + cut.row_sum(first + r, 0), cut.strips, 1);
    sum += double(move<K, T>(k, own.rows, first + r, total / double(cut.width)));
  }
  block_sync();  // another thread may still read the previous matrix's
  columns[thread] = sum;
  block_sync();
  for (int half = kColumns / 2; half > 0; half /= 2) {
    if (thread < half) columns[thread] += columns[thread + half];
    block_sync();
  }
  const double level = k.level(columns[0] / double(cut.height));
  T* levelled = reinterpret_cast<T*>(own.levelled) + first;
  for (int64_t r = thread; r < cut.height; r += kThreads)
    levelled[r] = over_level(load_element<T>(own.rows, first + r), level);
}

template <class K, class T, int64_t kBytes>
__global__ void __launch_bounds__(kThreads, 2)
    finish_kernel(const __grid_constant__ ElementwiseCall<T> call,
                  const __grid_constant__ Table<kBytes> table, const double* all_sums,
                  Factored* ones) {
  const TableView view = table.view(call.shape);
  const unsigned char* bytes = view.fixed();
  const Ride<T> riding = ride(call);
  if (blockIdx.x == 0 && threadIdx.x == 0) *ones = {1, 1};
  if (riding.skip) return;
  const auto* all = reinterpret_cast<const Matrices*>(bytes + call.shape.counters);
  const int64_t jobs = all[call.shape.entries].first_job;
  const int thread = int(threadIdx.x);
  Functors<K, T, kGrad> functors(call, view);
  for (int64_t job = blockIdx.x; job < jobs; job += gridDim.x) {
    const int32_t place = place_of(all, call.shape.entries, &Matrices::first_job, job);
    const Entry<kArity> entry = entry_at(view, place);
    const Matrices& own = all[place];
    functors.select(entry);
    const K& k = functors.selected();
    const int64_t local = job - own.first_job;
    if (own.height == 0) {
      const int64_t begin = local * kVectorElements;
      const int64_t end = smaller(begin + kVectorElements, own.size);
      for (int64_t at = begin + thread; at < end; at += kThreads)
        move<K, T>(k, own.rows, at, square_at(entry, bytes, riding.prepare, at));
      continue;
    }
    const FactorCut cut = own.cut();
    const double* sums = all_sums + own.first_sum;
    const int64_t matrix = local / own.jobs_of_matrix(), part = local % own.jobs_of_matrix();
    if (part == 0) {
      finish_rows<K, T>(k, own, cut, sums, matrix);
      continue;
    }
    const int64_t c = (part - 1) * kThreads + thread;
    if (c >= cut.width) continue;
    const double total = total_of(sums + cut.column_sum(matrix, 0, c), cut.bands, cut.width);
    move<K, T>(k, own.columns, matrix * cut.width + c, total / double(cut.height));
  }
}

// ---- host

inline int64_t sum_bytes(const Elementwise& call) {
  int64_t sums = 0;
  for (int64_t t = 0; t < call.count; ++t) sums += factor_sums(call, t);
  return ceil_div(sums * int64_t(sizeof(double)), 16) * 16;
}
inline int64_t workspace(const Elementwise& call) {
  return sum_bytes(call) +
         table_bound(call.tensors, call.count, int64_t(sizeof(Entry<kArity>) + sizeof(Matrices)),
                     kArity, call.hyper_size * int64_t(sizeof(double)), larger(1, call.hyper_rows));
}

// The Matrices of all tensors of one computing type, and one behind them with the ends.
template <class T>
std::vector<Matrices> matrices_of(const Elementwise& call) {
  std::vector<Matrices> all;
  Matrices next{};
  for (int64_t t = 0; t < call.count; ++t) {
    const Tensor& tensor = call.tensors[t];
    if (!has_any<T>(&tensor, 1)) continue;
    Matrices own = next;
    own.size = tensor.size;
    own.height = call.factors[t].height;
    own.width = call.factors[t].width;
    own.rows = memory(call.factors[t].rows.data, call.factors[t].rows.dtype);
    own.columns = memory(call.factors[t].columns.data, call.factors[t].columns.dtype);
    own.levelled = static_cast<char*>(tensor.operands[kGrad + 1].data);
    all.push_back(own);
    if (own.height > 0) {
      const FactorCut cut = own.cut();
      next.first_tile += cut.matrices * cut.bands * cut.strips;
      next.first_job += cut.matrices * own.jobs_of_matrix();
      next.first_sum += cut.sums();
    } else {
      next.first_job += ceil_div(tensor.size, kVectorElements);
    }
  }
  all.push_back(next);
  return all;
}

template <class K, class T>
void factor_as(const Elementwise& call, int64_t* taken) {
  TableBuilder<T, kArity> builder(true);
  builder.fill(
      call.tensors, 0, call.count, int64_t(1) << 30, 0, [](const Tensor& t) { return t.operands; },
      [](const Tensor& t, int64_t) { return t.parameter; });
  if (builder.empty()) return;
  const std::vector<Matrices> all = matrices_of<T>(call);
  std::vector<int32_t> words(all.size() * sizeof(Matrices) / sizeof(int32_t));
  memcpy(words.data(), all.data(), all.size() * sizeof(Matrices));
  const std::vector<double> rows(call.hyper, call.hyper + call.hyper_rows * call.hyper_size);
  builder.finish(rows, words);
  const auto stream = static_cast<cudaStream_t>(call.stream);
  auto* sums = static_cast<double*>(call.workspace);
  const auto run = [&](const auto& table, const TableShape& shape) {
    const ElementwiseCall<T> arguments = arguments_of<T>(call, shape);
    constexpr int64_t kBytes = std::decay_t<decltype(table)>::kBytes;
    const auto sum = &sum_kernel<T, kBytes>;
    const auto finish = &finish_kernel<K, T, kBytes>;
    if (all.back().first_tile > 0)
      start(sum, persistent_blocks(sum, ceil_div(all.back().first_tile, kWarps)), stream, arguments,
            table, sums);
    start(finish, persistent_blocks(finish, all.back().first_job), stream, arguments, table, sums,
          static_cast<Factored*>(call.factored));
  };
  *taken += with_table<false>(builder, kGrad, TableRoom::of<T>(call, *taken), stream, run);
}

template <template <class> class F>
void factor(const Elementwise& call) {
  if (!call.workspace) return record_error("sums of rows and columns need a workspace");
  int64_t taken = sum_bytes(call);
  factor_as<F<float>, float>(call, &taken);
  if (has_any<double>(call.tensors, call.count)) factor_as<F<double>, double>(call, &taken);
}

}  // namespace factors
}  // namespace
ONEPASS_END
