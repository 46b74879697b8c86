// The driver of factors (core/rule.h). One pass over the gradients adds up squares along rows and
// columns; a second pass over these sums moves the states to their next values. For a tensor
// without matrices the first pass already does that. core/factors.h defines the order.
#pragma once
#include "core/factors.h"
#include "cpu/tensor_norms.h"

ONEPASS_BEGIN
namespace {
namespace factors {

constexpr int64_t kUnitColumns = 16 * kStrip;  // of a unit, a part of a band
constexpr int64_t kTaskElements = 2 * kGroupElements;

template <class T>
[[gnu::noinline]] void prepare_run(const PrepareGradient<T> prepare, int64_t n, const T* g, T* to) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) to[i] = prepare(g[i]);
}
// Adds squares of a part of a row to the sums of their columns; returns the sum along the row.
template <class T>
[[gnu::noinline]] double square_row(int64_t n, const T* g, double* columns) {
  alignas(64) double lanes[kLanes];
  int64_t width = kLanes;
  while (width > 1 && width / 2 >= n) width /= 2;
  for (int64_t l = 0; l < width; ++l) lanes[l] = 0;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma GCC ivdep
    for (int64_t l = 0; l < kLanes; ++l) {
      const double square = double(g[i + l]) * double(g[i + l]);
      lanes[l] += square;
      columns[i + l] += square;
    }
  }
#pragma GCC ivdep
  for (int64_t l = 0; l < n - i; ++l) {
    const double square = double(g[i + l]) * double(g[i + l]);
    lanes[l] += square;
    columns[i + l] += square;
  }
  for (width /= 2; width > 0; width /= 2) {
#pragma GCC ivdep
    for (int64_t l = 0; l < width; ++l) lanes[l] += lanes[l + width];
  }
  return lanes[0];
}
template <class K, class T>
[[gnu::noinline]] void move_elements(const K k, int64_t n, const T* g, T* held) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) held[i] = k(held[i], double(g[i]) * double(g[i]));
}
template <class K, class T>
[[gnu::noinline]] void move_means(const K k, double extent, int64_t n, const double* sums,
                                  T* held) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) held[i] = k(held[i], sums[i] / extent);
}
template <class T>
[[gnu::noinline]] void level_rows(double level, int64_t n, const T* held, T* to) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) to[i] = over_level(held[i], level);
}
// A dense array of states, a block at a time.
ONEPASS_HD Tensor array_of(const Operand* state, int64_t size) {
  Tensor tensor;
  tensor.size = size;
  tensor.operands = state;
  return tensor;
}

// How a tensor is cut into units of work: parts of bands, or of its elements.
struct Units {
  int64_t count, elements;  // of one, about
  ONEPASS_HD Units(const Tensor& tensor, const Factors& own) {
    if (tensor.size == 0) {
      count = elements = 0;
    } else if (own.height > 0) {
      const FactorCut cut(tensor.size, own.height, own.width);
      count = cut.matrices * cut.bands * parts(cut);
      elements = smaller(cut.band, cut.height) * smaller(cut.width, kUnitColumns);
    } else {
      count = ceil_div(tensor.size, kGroupElements);
      elements = smaller(tensor.size, kGroupElements);
    }
  }
  static ONEPASS_HD int64_t parts(const FactorCut& cut) {
    return ceil_div(cut.width, kUnitColumns);
  }
};

// The parts in which the states of a tensor's matrices are finished.
ONEPASS_HD int64_t parts_of(const Elementwise& call, int64_t t) {
  const int64_t size = call.tensors[t].size,
                matrix = call.factors[t].height * call.factors[t].width;
  if (size == 0 || matrix == 0) return 0;
  return smaller(size / matrix, ceil_div(factor_sums(call, t), kGroupElements));
}

// Where the parts of the workspace are. For each tensor, and behind them for all:
struct Room {
  int64_t *first_unit, *first_part, *first_sum;
  int64_t* tasks;  // the first unit of each, and the end
  double* sums;
};

template <class K, class T>
struct Work {
  const K k;
  const Elementwise& call;
  const Tensor& tensor;
  const Factors& own;
  double* sums;
  const FactorCut cut;

  // The gradient of elements [begin, begin + n), n at most kBlockElements, as the update sees it.
  const T* gradient(int64_t begin, int64_t n, T* scratch) const {
    const Operand& grad = tensor.operands[kGrad];
    const GradientRider& rider = call.rider;
    const T* g = scratch;
    if (is_direct<T>(grad)) {
      g = static_cast<const T*>(grad.data) + begin;
    } else {
      load_block(tensor, grad, begin, n, scratch);
    }
    if (!rider.active()) return g;
    prepare_run<T>({rider.unscale, rider.max_value, {rider.coefficient, rider.rest}}, n, g,
                   scratch);
    return scratch;
  }

  void vector_unit(int64_t unit) const {
    const Operand& state = own.rows;
    const Tensor states = array_of(&state, tensor.size);
    alignas(64) T scratch[kBlockElements], held[kBlockElements];
    const int64_t end = smaller((unit + 1) * kGroupElements, tensor.size);
    for (int64_t begin = unit * kGroupElements, n; begin < end; begin += n) {
      n = smaller(kBlockElements, end - begin);
      const T* g = gradient(begin, n, scratch);
      T* to = is_direct<T>(state) ? static_cast<T*>(state.data) + begin : held;
      if (to == held) load_block(states, state, begin, n, held);
      move_elements<K, T>(k, n, g, to);
      if (to == held) store_block(states, state, begin, n, held);
    }
  }
  void matrix_unit(int64_t unit) const {
    const int64_t parts = Units::parts(cut);
    const int64_t matrix = unit / (cut.bands * parts), band = unit / parts % cut.bands;
    const int64_t first_column = unit % parts * kUnitColumns;
    const int64_t end_column = smaller(first_column + kUnitColumns, cut.width);
    const int64_t end_row = smaller((band + 1) * cut.band, cut.height);
    double* columns = sums + cut.column_sum(matrix, band, 0);
    for (int64_t c = first_column; c < end_column; ++c) columns[c] = 0;
    // Narrow rows share a block.
    const int64_t together = larger(1, kBlockElements / cut.width);
    alignas(64) T scratch[kBlockElements];
    for (int64_t r = band * cut.band; r < end_row; r += together) {
      const int64_t rows = smaller(together, end_row - r);
      for (int64_t c = first_column, n; c < end_column; c += n) {
        n = smaller(larger(1, kBlockElements / kStrip) * kStrip, end_column - c);
        const T* g = gradient((matrix * cut.height + r) * cut.width + c,
                              rows > 1 ? rows * cut.width : n, scratch);
        for (int64_t i = 0; i < rows; ++i, g += cut.width)
          for (int64_t done = 0; done < n; done += kStrip)
            sums[cut.row_sum(matrix * cut.height + r + i, (c + done) / kStrip)] =
                square_row<T>(smaller(kStrip, n - done), g + done, columns + c + done);
      }
    }
  }
  void unit(int64_t number) const {
    if (own.height > 0) {
      matrix_unit(number);
    } else {
      vector_unit(number);
    }
  }

  // Takes `count` states from `first` on to the means of sums[i] + sums[i + stride] + … of
  // `terms`, which are `step` apart from one state to the next.
  void move(const Operand& state, int64_t first, int64_t count, const double* from, int64_t step,
            int64_t terms, int64_t stride, double extent) const {
    const Tensor states = array_of(&state, first + count);
    alignas(64) T held[kBlockElements];
    alignas(64) double totals[kBlockElements];
    for (int64_t done = 0, n; done < count; done += n) {
      n = smaller(kBlockElements, count - done);
      for (int64_t i = 0; i < n; ++i) totals[i] = from[(done + i) * step];
      for (int64_t t = 1; t < terms; ++t)
        for (int64_t i = 0; i < n; ++i) totals[i] += from[(done + i) * step + t * stride];
      load_block(states, state, first + done, n, held);
      move_means<K, T>(k, extent, n, totals, held);
      store_block(states, state, first + done, n, held);
    }
  }
  // Finishes matrices [first, end).
  void finish(int64_t first, int64_t end) const {
    move(own.rows, first * cut.height, (end - first) * cut.height,
         sums + cut.row_sum(first * cut.height, 0), cut.strips, cut.strips, 1, double(cut.width));
    const int64_t together = cut.bands == 1 ? end - first : 1;
    for (int64_t m = first; m < end; m += together)
      move(own.columns, m * cut.width, together * cut.width, sums + cut.column_sum(m, 0, 0), 1,
           cut.bands, cut.width, double(cut.height));
    if (cut.height > kColumns) {
      for (int64_t m = first; m < end; ++m) level_matrix(m);
    } else {
      level_matrices(first, end);
    }
  }
  double level(const double* total, int64_t n) const {
    return k.level(add_up(Values{}, total, n) / double(cut.height));
  }
  T* levelled(int64_t row) const { return static_cast<T*>(tensor.operands[kGrad + 1].data) + row; }
  void level_matrix(int64_t matrix) const {
    const Tensor states = array_of(&own.rows, cut.rows());
    const int64_t first = matrix * cut.height;
    alignas(64) T held[kBlockElements];
    double total[kColumns] = {};
    for (int64_t done = 0, n; done < cut.height; done += n) {
      n = smaller(kColumns, cut.height - done);
      load_block(states, own.rows, first + done, n, held);
      for (int64_t i = 0; i < n; ++i) total[i] += double(held[i]);
    }
    const double by = level(total, kColumns);
    for (int64_t done = 0, n; done < cut.height; done += n) {
      n = smaller(kBlockElements, cut.height - done);
      load_block(states, own.rows, first + done, n, held);
      level_rows<T>(by, n, held, levelled(first + done));
    }
  }
  // The same of several that share a block.
  void level_matrices(int64_t first, int64_t end) const {
    const Tensor states = array_of(&own.rows, cut.rows());
    alignas(64) T held[kBlockElements];
    double total[kColumns];
    for (int64_t m = first, n; m < end; m += n) {
      n = smaller(end - m, kBlockElements / cut.height);
      load_block(states, own.rows, m * cut.height, n * cut.height, held);
      for (int64_t i = 0; i < n; ++i) {
        const T* rows = held + i * cut.height;
        for (int64_t r = 0; r < cut.height; ++r) total[r] = double(rows[r]);
        level_rows<T>(level(total, cut.height), cut.height, rows, levelled((m + i) * cut.height));
      }
    }
  }
};

template <template <class> class F>
struct Job {
  const Elementwise& call;
  Functors<F<float>, float> single;
  Functors<F<double>, double> twice;
  const Room room;

  template <class Do>
  ONEPASS_HD void with(int64_t t, Do act) const {
    const Tensor& tensor = call.tensors[t];
    const Factors& own = call.factors[t];
    const FactorCut cut(tensor.size, own.height, own.width);
    double* sums = room.sums + room.first_sum[t];
    if (tensor.computing == DType::f64) {
      act(Work<F<double>, double>{twice.of(tensor), call, tensor, own, sums, cut});
    } else {
      act(Work<F<float>, float>{single.of(tensor), call, tensor, own, sums, cut});
    }
  }
  // The tensor that has the unit or part.
  int64_t tensor_of(const int64_t* first, int64_t number) const {
    int64_t low = 0, high = call.count;
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      (first[middle] <= number ? low : high) = middle;
    }
    return low;
  }
  static void sum(void* context, int64_t task) {
    const Job& job = *static_cast<const Job*>(context);
    const FlushDenormals flush;
    const int64_t* first = job.room.first_unit;
    int64_t unit = job.room.tasks[task];
    const int64_t end = job.room.tasks[task + 1];
    for (int64_t t = job.tensor_of(first, unit); unit < end; ++t) {
      if (first[t] == first[t + 1]) continue;
      job.with(t, [&](const auto& work) {
        for (; unit < end && unit < first[t + 1]; ++unit) work.unit(unit - first[t]);
      });
    }
  }
  static void finish(void* context, int64_t number) {
    const Job& job = *static_cast<const Job*>(context);
    const int64_t* first = job.room.first_part;
    const FlushDenormals flush;
    const int64_t t = job.tensor_of(first, number);
    const int64_t part = number - first[t], parts = first[t + 1] - first[t];
    job.with(t, [&](const auto& work) {
      const int64_t matrices = work.cut.matrices;
      work.finish(matrices * part / parts, matrices * (part + 1) / parts);
    });
  }
};

// Each task has a unit at least.
ONEPASS_HD int64_t most_tasks(const Elementwise& call) {
  int64_t units = 0;
  for (int64_t t = 0; t < call.count; ++t) units += Units(call.tensors[t], call.factors[t]).count;
  return units;
}

template <template <class> class F>
void factor(const Elementwise& call) {
  auto* words = static_cast<int64_t*>(call.workspace);
  const int64_t each = call.count + 1;
  Room room{words, words + each, words + 2 * each, words + 3 * each, nullptr};
  int64_t units = 0, parts = 0, sums = 0, tasks = 0, filled = kTaskElements, elements = 0;
  for (int64_t t = 0; t < call.count; ++t) {
    const Tensor& tensor = call.tensors[t];
    const Units own(tensor, call.factors[t]);
    room.first_unit[t] = units;
    room.first_part[t] = parts;
    room.first_sum[t] = sums;
    parts += parts_of(call, t);
    for (int64_t left = own.count, some; left > 0; left -= some) {
      if (filled >= kTaskElements) room.tasks[tasks++] = units, filled = 0;
      some = smaller(left, ceil_div(kTaskElements - filled, own.elements));
      filled += some * own.elements;
      units += some;
    }
    sums += factor_sums(call, t);
    elements += tensor.size;
  }
  room.first_unit[call.count] = units;
  room.first_part[call.count] = parts;
  room.tasks[tasks] = units;
  room.sums = reinterpret_cast<double*>(room.tasks + tasks + 1);
  auto* ones = static_cast<Factored*>(call.factored);
  ones->double_one = 1;
  ones->float_one = 1;
  Job<F> job{call, Functors<F<float>, float>(call), Functors<F<double>, double>(call), room};
  if (elements <= kSerialElements) {
    for (int64_t task = 0; task < tasks; ++task) Job<F>::sum(&job, task);
    for (int64_t part = 0; part < parts; ++part) Job<F>::finish(&job, part);
  } else {
    parallel_for(tasks, &Job<F>::sum, &job);
    parallel_for(parts, &Job<F>::finish, &job);
  }
}

[[maybe_unused]] int64_t workspace(const Elementwise& call) {
  int64_t words = 3 * (call.count + 1) + most_tasks(call) + 1;
  for (int64_t t = 0; t < call.count; ++t) words += factor_sums(call, t);
  return words * int64_t(sizeof(int64_t));
}

}  // namespace factors
}  // namespace
ONEPASS_END
