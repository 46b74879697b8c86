// The walk over the rows of (outer, classes, inner), shared by all kernels along the classes. A
// kernel is a Work that defines what happens to a row; the walk decides in which form it passes the
// rows.
//
// Long contiguous rows come one by one, with lanes along the classes. Short rows, and rows whose
// classes lie `inner` apart, come as a group of positions with lanes across the positions; short
// rows are first transposed into a tile. Tasks depend only on sizes. Each task leaves one double,
// and these are added in order.
#pragma once
#include "cpu/dense.h"
#include "cpu/loops.h"
#include "cpu/parallel.h"

ONEPASS_BEGIN
namespace {
namespace rows {

constexpr int64_t kShortRow = 48;    // classes up to which rows are transposed
constexpr int64_t kTile = 64;        // rows transposed at a time
constexpr int64_t kPositions = 256;  // positions taken at a time
constexpr int64_t kMostTasks = 512;  // their partial losses live on the caller's stack

// An array with one row of positions per class, `stride` elements apart.
template <class T>
struct ClassRows {
  void* data;
  DType dtype;
  int64_t stride;
  const T* load(int64_t c, int64_t n, T* scratch) const {
    return fetch<T>(data, dtype, c * stride, n, scratch);
  }
  T* place(int64_t c, T* scratch) const {
    return same_dtype<T>(dtype) ? static_cast<T*>(data) + c * stride : scratch;
  }
  void store(int64_t c, int64_t n, const T* from) const {
    put<T>(data, dtype, c * stride, n, from);
  }
};

// The arrays of a Work: `x` and `other` (or null) are read, `out` (or null) is written.
struct RowArrays {
  int64_t outer, classes, inner;
  DType dtype;
  const void *x, *other;
  void* out;

  int64_t positions() const { return outer * inner; }
};

// Work has
//   RowArrays arrays
//   double row(int64_t r) const             one long row
//   double group(int64_t position, int64_t n, ClassRows<T> x, other, out) const
//                                           n <= kPositions positions side by side
// which return what the task adds up. It is written in the folds of row_folds.h.
template <class T, class Work>
struct RowWalk : Work {
  using Work::arrays;
  int64_t positions;
  int64_t task_positions;     // a multiple of kTile
  double* partial = nullptr;  // of the tasks

  template <class Description>
  explicit RowWalk(const Description& description)
      : Work(description), positions(arrays.positions()) {
    const int64_t wanted = larger(kTaskElements / arrays.classes, ceil_div(positions, kMostTasks));
    task_positions = ceil_div(larger(wanted, 1), unit()) * unit();
  }
  // Tasks hold a multiple of this many positions.
  int64_t unit() const { return arrays.inner > 1 || arrays.classes > kShortRow ? 1 : kTile; }
  int64_t tasks() const { return ceil_div(positions, task_positions); }
  int64_t begin_of(int64_t task) const { return task * task_positions; }
  int64_t end_of(int64_t task) const { return smaller(begin_of(task) + task_positions, positions); }

  // The sum of what the Work returns for all rows.
  double walk() { return add_tasks(&walk_task, positions * arrays.classes <= kSerialElements); }
  double add_tasks(void (*task)(void*, int64_t), bool serial) {
    if (serial) {
      for (int64_t i = 0; i < tasks(); ++i) task(this, i);
    } else {
      parallel_for(tasks(), task, this);
    }
    double sum = 0;
    for (int64_t i = 0; i < tasks(); ++i) sum += partial[i];
    return sum;
  }

 private:
  ClassRows<T> class_rows(const void* data, int64_t element) const {
    if (!data) return {nullptr, arrays.dtype, 0};
    char* at = static_cast<char*>(const_cast<void*>(data)) + element * size_of(arrays.dtype);
    return {at, arrays.dtype, arrays.inner};
  }
  double strided(int64_t position, int64_t n) const {
    const int64_t outer = position / arrays.inner, inner = position % arrays.inner;
    const int64_t element = outer * arrays.classes * arrays.inner + inner;
    return this->group(position, n, class_rows(arrays.x, element),
                       class_rows(arrays.other, element), class_rows(arrays.out, element));
  }

  // Up to kTile short rows: transposed, worked on, transposed back.
  double tile(int64_t r, int64_t n) const {
    T x_tile[kShortRow * kTile], p_tile[kShortRow * kTile], scratch[kShortRow * kTile];
    const int64_t at = r * arrays.classes, count = n * arrays.classes;
    const DType native = dtype_of<T>::value;
    transpose(fetch<T>(arrays.x, arrays.dtype, at, count, scratch), n, x_tile);
    if (arrays.other)
      transpose(fetch<T>(arrays.other, arrays.dtype, at, count, scratch), n, p_tile);
    const ClassRows<T> x{x_tile, native, kTile}, p{p_tile, native, kTile};
    const double loss = this->group(r, n, x, p, {arrays.out ? x_tile : nullptr, native, kTile});
    if (arrays.out) {
      T* d = same_dtype<T>(arrays.dtype) ? static_cast<T*>(arrays.out) + at : scratch;
      for (int64_t l = 0; l < n; ++l) {
#pragma GCC unroll 8
        for (int64_t c = 0; c < arrays.classes; ++c)
          d[l * arrays.classes + c] = x_tile[c * kTile + l];
      }
      put<T>(arrays.out, arrays.dtype, at, count, d);
    }
    return loss;
  }
  void transpose(const T* x, int64_t n, T* to) const {
    for (int64_t l = 0; l < n; ++l)
      for (int64_t c = 0; c < arrays.classes; ++c) to[c * kTile + l] = x[l * arrays.classes + c];
  }

  static void walk_task(void* context, int64_t index) {
    const RowWalk& walk = *static_cast<const RowWalk*>(context);
    const FlushDenormals flush;
    const int64_t end = walk.end_of(index);
    double sum = 0;
    for (int64_t p = walk.begin_of(index); p < end;) {
      int64_t n = 1;
      if (walk.arrays.inner > 1) {
        n = smaller(smaller(kPositions, end - p), walk.arrays.inner - p % walk.arrays.inner);
        sum += walk.strided(p, n);
      } else if (walk.arrays.classes <= kShortRow) {
        n = smaller(kTile, end - p);
        sum += walk.tile(p, n);
      } else {
        sum += walk.row(p);
      }
      p += n;
    }
    walk.partial[index] = sum;
  }
};

// Walks the rows of a call whose Work adds nothing up.
template <template <class> class Work, class T>
void walk_rows_as(const AlongClasses& call) {
  double partial[kMostTasks + 1];
  RowWalk<T, Work<T>> walk(call);
  walk.partial = partial;
  walk.walk();
}
template <template <class> class Work>
void walk_rows(const AlongClasses& call) {
  if (call.outer * call.classes * call.inner == 0) return;
  call.dtype == DType::f64 ? walk_rows_as<Work, double>(call) : walk_rows_as<Work, float>(call);
}

}  // namespace rows
}  // namespace
ONEPASS_END
