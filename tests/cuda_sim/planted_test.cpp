// Runs kernels in the simulator, in several thread orders.
//
//   planted_test right   every right kernel against a plain loop; exit status 1 on a difference
//   planted_test NAME    one mistake; prints what the simulator saw of it, sanitizers add theirs
//   planted_test         the names of the mistakes
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cusim.h"
#include "planted.cuh"
#include "right.cuh"

using cusim::Order;
using onepass::cuda::launch;
using std::vector;

namespace {

const cusim::Options kOrders[] = {
    {Order::kForward, 0, 4}, {Order::kReverse, 0, 3}, {Order::kRandom, 1, 1},
#ifndef __SANITIZE_THREAD__  // where a thread costs a third of a millisecond
    {Order::kRandom, 2, 4},  {Order::kRandom, 3, 7},
#endif
};

vector<float> random_floats(size_t n, unsigned seed = 7) {
  std::mt19937 bits(seed);
  vector<float> values(n);
  for (float& value : values) value = float(bits()) * 0x1p-31f - 1.0f;
  return values;
}

// A vector of floats on a 16-byte boundary.
struct alignas(16) Aligned {
  float value[1024];
};

// ---- Right kernels -----------------------------------------------------------------------------

int failures = 0;

void check(bool holds, const char* what) {
  if (holds) return;
  ++failures;
  std::printf("wrong: %s %s\n", what, cusim::last_error().c_str());
}

// Each returns all that its kernel wrote, after checking it.

vector<float> elementwise() {
  Aligned buffer;
  const int n = 1003;
  const vector<float> x = random_floats(n, 1), y = random_floats(n, 2);
  vector<float> padded(n + 4);
  // x on a 16-byte boundary too
  float* ax = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(padded.data()) + 15) & ~15ul);
  std::copy(x.begin(), x.end(), ax);
  std::copy(y.begin(), y.end(), buffer.value);
  check(launch(right::elementwise<float, right::Axpy<float>>, 2, 64, 0, nullptr, ax, buffer.value,
               n, right::Axpy<float>{1.5f}) == cudaSuccess,
        "elementwise runs");
  for (int i = 0; i < n; ++i) check(buffer.value[i] == 1.5f * x[i] + y[i], "elementwise");
  return {buffer.value, buffer.value + n};
}

vector<float> reverse_eights() {
  Aligned from, to;
  const vector<float> x = random_floats(1024);
  std::copy(x.begin(), x.end(), from.value);
  check(!launch(right::reverse_eights, 2, 32, 0, nullptr, from.value, to.value, 128),
        "reverse_eights runs");
  for (int i = 0; i < 1024; ++i) check(to.value[i] == x[i / 8 * 8 + 7 - i % 8], "reverse_eights");
  return {to.value, to.value + 1024};
}

vector<float> row_moments() {
  const int rows = 3, columns = 301;
  const vector<float> x = random_floats(rows * columns);
  vector<float> moments(2 * rows);
  check(!launch(right::row_moments, rows, 64, 0, nullptr, x.data(), moments.data(),
                moments.data() + rows, columns),
        "row_moments runs");
  for (int row = 0; row < rows; ++row) {
    double mean = 0, variance = 0;
    for (int i = 0; i < columns; ++i) mean += x[row * columns + i] / double(columns);
    for (int i = 0; i < columns; ++i)
      variance += (x[row * columns + i] - mean) * (x[row * columns + i] - mean) / columns;
    check(std::fabs(moments[row] - mean) < 1e-6, "mean");
    check(std::fabs(moments[rows + row] - variance) < 1e-6, "variance");
  }
  return moments;
}

vector<float> sum() {
  const int n = 3001;
  const unsigned blocks = 4;
  const vector<float> x = random_floats(n);
  vector<float> block_sums(blocks), total(2);
  unsigned tickets = 0;
  double expected = 0;
  for (float value : x) expected += value;
  for (float& t : total)  // twice, because the tickets must be ready again
    check(!launch(right::sum, blocks, 64, 0, nullptr, x.data(), n, block_sums.data(), &tickets, &t),
          "sum runs");
  check(std::fabs(total[0] - expected) < 1e-3 && total[0] == total[1] && tickets == 0, "sum");
  return total;
}

vector<float> mask_bits() {
  const int n = 1000;
  const vector<float> x = random_floats(n);
  vector<unsigned> words((n + 31) / 32);
  check(!launch(right::mask_bits, 2, 64, 0, nullptr, x.data(), words.data(), n, 0.25f),
        "mask_bits runs");
  for (int i = 0; i < n; ++i) check((words[i / 32] >> i % 32 & 1) == (x[i] > 0.25f), "mask_bits");
  check(words.back() >> n % 32 == 0, "mask_bits past the end");
  return {words.begin(), words.end()};
}

vector<float> transpose() {
  const int rows = 37, columns = 45;
  const vector<float> x = random_floats(rows * columns);
  vector<float> y(rows * columns);
  check(!launch(right::transpose, dim3(2, 2), dim3(32, 2), 0, nullptr, x.data(), y.data(), rows,
                columns),
        "transpose runs");
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) check(y[j * rows + i] == x[i * columns + j], "transpose");
  return y;
}

vector<float> reverse_in_place() {
  const int n = 40000;  // 160 KB
  const vector<float> x = random_floats(n);
  vector<float> y = x;
  check(!onepass::cuda::allow_dynamic_shared(right::reverse_in_place, n * sizeof(float)),
        "allow_dynamic_shared");
  check(!launch(right::reverse_in_place, 1, 64, n * sizeof(float), nullptr, y.data(), n),
        "reverse_in_place runs");
  for (int i = 0; i < n; ++i) check(y[i] == x[n - 1 - i], "reverse_in_place");
  return y;
}

vector<float> cluster_sums() {
  const int ranks = 4, blocks = 8;
  const vector<float> x = random_floats(blocks * 64);
  vector<float> y(blocks);
  const onepass::cuda::Cluster cluster{ranks};
  int clusters = 0;
  check(!onepass::cuda::resident_clusters(&clusters, cluster, right::cluster_sums, 64, 0) &&
            clusters > 0,
        "resident_clusters");
  check(!launch(cluster, right::cluster_sums, blocks, 64, 0, nullptr, x.data(), y.data(), ranks),
        "cluster_sums runs");
  const auto sum_of = [&](int block) {
    double sum = 0;
    for (int i = 0; i < 64; ++i) sum += x[size_t(block) * 64 + size_t(i)];
    return sum;
  };
  for (int i = 0; i < blocks; ++i) {
    const int next = i / ranks * ranks + (i % ranks + 1) % ranks;
    check(std::fabs(y[i] - sum_of(i) - sum_of(next)) < 1e-4, "cluster_sums");
  }
  return y;
}

vector<float> reverse_rows() {
  Aligned from;
  const int rows = 5, columns = 128;
  const vector<float> x = random_floats(rows * columns);
  std::copy(x.begin(), x.end(), from.value);
  vector<float> y(rows * columns);
  check(!launch(right::reverse_rows, 1, columns / 4, 2 * columns * sizeof(float), nullptr,
                from.value, y.data(), rows),
        "reverse_rows runs");
  for (int i = 0; i < rows * columns; ++i)
    check(y[i] == x[i / columns * columns + columns - 1 - i % columns], "reverse_rows");
  return y;
}

vector<float> half_warps() {
  int64_t x[32], y[32];
  for (int i = 0; i < 32; ++i) x[i] = int64_t(i) << 33;  // needs all 8 bytes
  check(!launch(right::half_warps, 1, 32, 0, nullptr, x, y), "half_warps runs");
  for (int64_t i = 0; i < 32; ++i) {
    const int64_t shuffled = i < 16 ? 3 : std::min<int64_t>(i + 1, 31);
    check(y[i] == ((i < 16 ? 15 - i : 47 - i) + shuffled + 31 - i) << 33, "half_warps");
  }
  return {y, y + 32};
}

vector<float> find_negatives() {
  const int n = 200;
  vector<float> x = random_floats(n);
  right::Extremes found{n, -1, 0, 0}, expected = found;
  for (int i = 0; i < n; ++i) {
    expected.signs |= x[i] < 0 ? 1 : 2;
    if (x[i] >= 0) continue;
    expected.first_negative = std::min<int64_t>(expected.first_negative, i);
    expected.last_negative = i;
    ++expected.negatives;
  }
  check(!launch(right::find_negatives, 2, 32, 0, nullptr, x.data(), n, &found),
        "find_negatives runs");
  check(found.first_negative == expected.first_negative &&
            found.last_negative == expected.last_negative &&
            found.negatives == expected.negatives && found.signs == expected.signs,
        "find_negatives");
  return {float(found.first_negative), float(found.last_negative), float(found.negatives)};
}

vector<float> zero_all() {
  vector<float> arrays[3] = {vector<float>(5, 1), vector<float>(0), vector<float>(100, 1)};
  right::Table table{};
  for (int i = 0; i < 3; ++i) {
    table.arrays[i] = arrays[i].data();
    table.sizes[i] = int(arrays[i].size());
  }
  check(!launch(right::zero_all, 3, 32, 0, nullptr, table), "zero_all runs");
  for (const auto& array : arrays)
    for (float value : array) check(value == 0, "zero_all");
  return arrays[2];
}

// The persistent grid of each order differs, the elementwise result may not.
vector<float> persistent_grid() {
  alignas(16) uint16_t x[203], y[203];
  for (int i = 0; i < 203; ++i) x[i] = uint16_t(3 * i), y[i] = uint16_t(i);
  const auto kernel = right::elementwise<uint16_t, right::Axpy<uint16_t>>;
  int blocks = 0;
  check(!onepass::cuda::resident_blocks(&blocks, kernel, 32, 0) && blocks > 0, "resident_blocks");
  check(!launch(kernel, blocks, 32, 0, nullptr, x, y, 203, right::Axpy<uint16_t>{2}),
        "persistent_grid runs");
  for (int i = 0; i < 203; ++i) check(y[i] == 7 * i, "persistent_grid");
  return {y, y + 203};
}

using Kernels = vector<vector<float> (*)()>;
const Kernels kRight = {elementwise,    reverse_eights, row_moments,      sum,
                        mask_bits,      transpose,      reverse_in_place, half_warps,
                        find_negatives, zero_all,       persistent_grid,  cluster_sums,
                        reverse_rows};

bool same_bits(const vector<float>& a, const vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

int run_right() {
  for (const auto kernel : kRight) {
    vector<float> first;
    for (const cusim::Options& order : kOrders) {
      cusim::set_options(order);
      const vector<float> result = kernel();
      if (first.empty()) first = result;
      check(same_bits(first, result), "bits differ between orders");
    }
  }
  // Host threads may launch; the second waits for the first.
  std::thread other([] { row_moments(); });
  row_moments();
  other.join();
  std::printf("%d wrong\n", failures);
  return failures != 0;
}

// ---- Mistakes ----------------------------------------------------------------------------------

// Launches a kernel on 64 floats and returns them.
template <class... A>
vector<float> on_floats(void (*kernel)(float*, A...), dim3 grid, dim3 block, size_t shared_bytes,
                        A... more) {
  vector<float> x = random_floats(64);
  launch(kernel, grid, block, shared_bytes, nullptr, x.data(), more...);
  return x;
}

// The same in clusters of two blocks.
vector<float> in_pairs(void (*kernel)(float*), unsigned blocks) {
  vector<float> x = random_floats(64);
  launch(onepass::cuda::Cluster{2}, kernel, blocks, 32, 0, nullptr, x.data());
  return x;
}
// The same on a 16-byte boundary, by 16 threads.
vector<float> on_aligned(void (*kernel)(float*)) {
  Aligned x;
  const vector<float> from = random_floats(64);
  std::copy(from.begin(), from.end(), x.value);
  launch(kernel, 1, 16, 0, nullptr, x.value);
  return {x.value, x.value + 64};
}

template <planted::Fences kFences>
vector<float> last_block_sum() {
  vector<float> block_sums(8), total(1);
  unsigned tickets = 0;
  launch(planted::last_block_sum<kFences>, 8, 1, 0, nullptr, block_sums.data(), &tickets,
         total.data());
  return total;
}

#define ON_FLOATS(name, grid, block, shared) \
  {#name, [] { return on_floats(planted::name, grid, block, shared); }}

const std::map<std::string, vector<float> (*)()> kMistakes = {
    ON_FLOATS(missing_block_sync, 1, 64, 0),
    ON_FLOATS(write_after_read, 1, 64, 0),
    ON_FLOATS(missing_warp_sync, 1, 32, 0),
    ON_FLOATS(shuffle_for_sync, 1, 32, 0),
    ON_FLOATS(half_warp_sync, 1, 32, 0),
    {"missing_cluster_sync", [] { return in_pairs(planted::missing_cluster_sync, 2); }},
    {"block_that_ended", [] { return in_pairs(planted::block_that_ended, 2); }},
    {"wrong_rank", [] { return in_pairs(planted::wrong_rank, 4); }},
    {"divergent_cluster_sync", [] { return in_pairs(planted::divergent_cluster_sync, 2); }},
    {"impossible_cluster", [] { return in_pairs(planted::wrong_rank, 3); }},
    {"early_read_of_copy", [] { return on_aligned(planted::early_read_of_copy); }},
    {"wait_for_too_few", [] { return on_aligned(planted::wait_for_too_few); }},
    {"copy_of_another", [] { return on_aligned(planted::copy_of_another); }},
    {"copy_without_wait", [] { return on_aligned(planted::copy_without_wait); }},
    {"misaligned_copy", [] { return on_aligned(planted::misaligned_copy); }},
    ON_FLOATS(block_race, 4, 32, 0),
    ON_FLOATS(block_race_behind_barriers, 4, 32, 0),
    {"plain_beside_atomic",
     [] {
       unsigned count = 0;
       launch(planted::plain_beside_atomic, 2, 1, 0, nullptr, &count);
       return vector<float>{float(count)};
     }},
    {"missing_publish_fence", last_block_sum<planted::Fences::kNoneBefore>},
    {"missing_observe_fence", last_block_sum<planted::Fences::kNoneAfter>},
    {"late_write", last_block_sum<planted::Fences::kTooEarly>},
    ON_FLOATS(divergent_block_sync, 1, 64, 0),
    ON_FLOATS(two_block_syncs, 1, 64, 0),
    ON_FLOATS(return_before_block_sync, 1, 64, 0),
    ON_FLOATS(return_before_shuffle, 1, 32, 0),
    ON_FLOATS(partial_warp, 1, 48, 0),
    ON_FLOATS(lane_not_in_mask, 1, 32, 0),
    ON_FLOATS(shuffle_from_outside_mask, 1, 32, 0),
    ON_FLOATS(two_warp_operations, 1, 32, 0),
    ON_FLOATS(unwritten_shared, 1, 64, 0),
    {"global_overrun",
     [] {
       vector<float> x(65);  // malloc rounds it up to 66, so that nothing breaks where nobody looks
       launch(planted::global_overrun, 2, 64, 0, nullptr, x.data(), 65);
       return x;
     }},
    {"pack_overrun",
     [] {
       vector<float> x(66);
       launch(planted::pack_overrun, 1, 1, 0, nullptr, x.data(), 66);
       return x;
     }},
    ON_FLOATS(static_shared_overrun, 1, 64, 0),
    ON_FLOATS(dynamic_shared_overrun, 1, 64, 64 * sizeof(float)),
    ON_FLOATS(pointer_shared_overrun, 1, 64, 0),
    ON_FLOATS(misaligned_pack, 1, 1, 0),
    ON_FLOATS(misaligned_double, 1, 1, 0),
    {"signed_overflow", [] { return on_floats(planted::signed_overflow, 1, 1, 0, 100000); }},
    ON_FLOATS(too_much_static_shared, 1, 1, 0),
    ON_FLOATS(too_much_shared_together, 1, 64, 48 << 10),
    {"too_much_dynamic_shared",
     [] {
       launch(planted::does_nothing, 1, 1, (48 << 10) + 1, nullptr);
       return vector<float>();
     }},
    {"impossible_launch",
     [] {
       launch(planted::does_nothing, 1, 1025, 0, nullptr);
       return vector<float>();
     }},
};

void run_mistake(vector<float> (*run)()) {
  vector<float> first;
  std::string error;
  bool differ = false, nan = false;
  for (const cusim::Options& order : kOrders) {
    cusim::set_options(order);
    const vector<float> result = run();
    if (error.empty()) error = cusim::last_error();
    if (first.empty()) first = result;
    differ |= !same_bits(first, result);
    for (float value : result) nan |= std::isnan(value);
  }
  if (!error.empty()) std::printf("error: %s\n", error.c_str());
  if (nan) std::printf("NaN\n");
  if (differ && error.empty()) std::printf("orders differ\n");
  // A failed block leaves its threads where they stood. The next launch must not notice.
  zero_all();
  if (failures) std::printf("damage\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1)
    for (const auto& mistake : kMistakes) std::printf("%s\n", mistake.first.c_str());
  if (argc == 1) return 0;
  if (std::strcmp(argv[1], "right") == 0) return run_right();
  run_mistake(kMistakes.at(argv[1]));
  return 0;
}
