// Maxout on the row walk: a row is the pieces of one channel.
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

}  // namespace rows

void maxout(const AlongClasses& call) { rows::walk_rows<rows::MaxoutWork>(call); }

}  // namespace
ONEPASS_END

ONEPASS_CPU_UNIT(maxout) {
  using namespace onepass::ONEPASS_ISA;
  backend->maxout = &maxout;
  backend->maxout_backward = &maxout;
}
