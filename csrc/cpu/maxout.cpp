// Maxout on the row walk: a row is the pieces of one channel. Two pieces that lie side by side,
// which the compiler takes apart by vectors, have loops of their own.
#include "kernels/maxout.h"
#include "cpu/row_folds.h"
#include "cpu/unit.h"

ONEPASS_BEGIN
namespace {
namespace rows {

template <class T>
[[gnu::noinline]] void pick_across(int64_t n, const T* x, int32_t piece, T* most, int32_t* picked) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    MaxoutPick<T> pick{most[l], picked[l]};
    pick.take(x[l], piece);
    most[l] = pick.most;
    picked[l] = pick.piece;
  }
}
template <class T>
[[gnu::noinline]] void gradient_across(int64_t n, const T* dy, int32_t piece, const int32_t* picked,
                                       T* dx) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) dx[l] = picked[l] == piece ? dy[l] : T(0);
}

// Both directions walk the same pieces; the arrays beside them have one value a row.
template <class T>
struct MaxoutWork {
  const AlongClasses& call;
  RowArrays arrays;  // out: dx, or null forward

  explicit MaxoutWork(const AlongClasses& c)
      : call(c),
        arrays{c.outer, c.classes, c.inner, c.dtype, c.x, nullptr, c.dy ? c.out : nullptr} {}

  double row(int64_t r) const {
    const int64_t at = r * arrays.classes;
    T scratch[kBlockElements];
    MaxoutPick<T> pick{*fetch<T>(arrays.x, arrays.dtype, at, 1, scratch), 0};
    for (int64_t c = 0; c < arrays.classes; c += kBlockElements) {
      const int64_t n = smaller(kBlockElements, arrays.classes - c);
      const T* x = fetch<T>(arrays.x, arrays.dtype, at + c, n, scratch);
      for (int64_t i = 0; i < n; ++i) pick.take(x[i], int32_t(c + i));
    }
    if (!call.dy) {
      put<T>(call.out, arrays.dtype, r, 1, &pick.most);
      return 0;
    }
    T value;
    const T dy = *fetch<T>(call.dy, arrays.dtype, r, 1, &value), zero = T(0);
    for (int64_t c = 0; c < arrays.classes; ++c)
      put<T>(arrays.out, arrays.dtype, at + c, 1, c == pick.piece ? &dy : &zero);
    return 0;
  }

  double group(int64_t position, int64_t n, ClassRows<T> x, ClassRows<T>, ClassRows<T> dx) const {
    T most[kPositions], scratch[kPositions], dy_scratch[kPositions];
    int32_t picked[kPositions];
    const T* first = x.load(0, n, scratch);
    for (int64_t l = 0; l < n; ++l) most[l] = first[l], picked[l] = 0;
    for (int64_t c = 1; c < arrays.classes; ++c)
      pick_across(n, x.load(c, n, scratch), int32_t(c), most, picked);
    if (!call.dy) {
      put<T>(call.out, arrays.dtype, position, n, most);
      return 0;
    }
    const T* dy = fetch<T>(call.dy, arrays.dtype, position, n, dy_scratch);
    for (int64_t c = 0; c < arrays.classes; ++c) {
      T* to = dx.place(c, scratch);
      gradient_across(n, dy, int32_t(c), picked, to);
      dx.store(c, n, to);
    }
    return 0;
  }
};

template <class T>
ONEPASS_HD MaxoutPick<T> pick_of_pair(const T* x) {
  MaxoutPick<T> pick{x[0], 0};
  pick.take(x[1], 1);
  return pick;
}
template <class T>
[[gnu::noinline]] void most_of_pairs(int64_t n, const T* x, T* y) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) y[l] = pick_of_pair(x + 2 * l).most;
}
template <class T>
[[gnu::noinline]] void gradient_of_pairs(int64_t n, const T* dy, const T* x, T* dx) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    const int32_t piece = pick_of_pair(x + 2 * l).piece;
    const T g = dy[l];
    dx[2 * l] = piece == 0 ? g : T(0);
    dx[2 * l + 1] = piece == 0 ? T(0) : g;
  }
}

template <class T>
struct MaxoutPairs {
  static constexpr int64_t kBlock = kBlockElements / 2, kTask = kTaskElements / 2;

  const AlongClasses& call;

  T* place(int64_t at, T* scratch) const {
    return same_dtype<T>(call.dtype) ? static_cast<T*>(call.out) + at : scratch;
  }
  void blocks(int64_t index) const {
    const FlushDenormals flush;
    const int64_t end = smaller((index + 1) * kTask, call.outer);
    for (int64_t r = index * kTask; r < end; r += kBlock) {
      T x_scratch[2 * kBlock], y_scratch[kBlock], out_scratch[2 * kBlock];
      const int64_t n = smaller(kBlock, end - r);
      const T* x = fetch<T>(call.x, call.dtype, 2 * r, 2 * n, x_scratch);
      if (call.dy) {
        const T* dy = fetch<T>(call.dy, call.dtype, r, n, y_scratch);
        T* dx = place(2 * r, out_scratch);
        gradient_of_pairs(n, dy, x, dx);
        put<T>(call.out, call.dtype, 2 * r, 2 * n, dx);
      } else {
        T* y = place(r, y_scratch);
        most_of_pairs(n, x, y);
        put<T>(call.out, call.dtype, r, n, y);
      }
    }
  }
  static void task(void* context, int64_t index) {
    static_cast<const MaxoutPairs*>(context)->blocks(index);
  }
  void run() {
    const int64_t tasks = ceil_div(call.outer, kTask);
    if (2 * call.outer > kSerialElements) return parallel_for(tasks, &task, this);
    for (int64_t i = 0; i < tasks; ++i) task(this, i);
  }
};

}  // namespace rows

void maxout(const AlongClasses& call) {
  if (call.inner != 1 || call.classes != 2) return rows::walk_rows<rows::MaxoutWork>(call);
  if (call.dtype == DType::f64) {
    rows::MaxoutPairs<double>{call}.run();
  } else {
    rows::MaxoutPairs<float>{call}.run();
  }
}

}  // namespace
ONEPASS_END

ONEPASS_CPU_UNIT(maxout) {
  using namespace onepass::ONEPASS_ISA;
  backend->maxout = &maxout;
  backend->maxout_backward = &maxout;
}
