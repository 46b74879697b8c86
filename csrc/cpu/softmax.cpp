// Softmax and log-softmax on the row walk.
#include "kernels/softmax.h"
#include "cpu/row_folds.h"
#include "cpu/unit.h"

ONEPASS_BEGIN
namespace {
namespace rows {

// v is exp(x − m) if F wants that, else x.
template <class F, class T>
[[gnu::noinline]] void finish_along(int64_t n, const T* v, T m, T of_sum, T* y) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) y[i] = F::forward(v[i], m, of_sum);
}
template <class F, class T>
[[gnu::noinline]] void finish_across(int64_t n, const T* v, const T* m, const T* of_sum, T* y) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) y[l] = F::forward(v[l], m[l], of_sum[l]);
}
template <class F, class T>
[[gnu::noinline]] void of_sums(int64_t n, const double* sum, T* of_sum) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) of_sum[l] = F::of_sum(T(sum[l]));
}

template <class T, template <class> class Formula>
struct SoftmaxWork {
  using F = Formula<T>;
  RowArrays arrays;

  explicit SoftmaxWork(const AlongClasses& c)
      : arrays{c.outer, c.classes, c.inner, c.dtype, c.x, nullptr, c.out} {}

  // exp(x − m) waits in the result where that can hold it.
  bool keeps(DType stored) const { return F::kOfTerm && same_dtype<T>(stored); }

  double row(int64_t r) const {
    const int64_t classes = arrays.classes, at = r * classes;
    T x_scratch[kBlockElements], y_scratch[kBlockElements];
    const T m = max_of_row(arrays, at, x_scratch);
    T* const kept = keeps(arrays.dtype) ? static_cast<T*>(arrays.out) + at : nullptr;
    double sum = 0;
    for (int64_t c = 0; c < classes; c += kBlockElements) {
      const int64_t n = smaller(kBlockElements, classes - c);
      const T* x = fetch<T>(arrays.x, arrays.dtype, at + c, n, x_scratch);
      sum += exp_along(n, x, m, kept ? kept + c : y_scratch);
    }
    const T of_sum = F::of_sum(T(sum));
    for (int64_t c = 0; c < classes; c += kBlockElements) {
      const int64_t n = smaller(kBlockElements, classes - c);
      T* y = kept ? kept + c : y_scratch;
      const T* v = y;
      if (!kept && !(F::kOfTerm && classes <= kBlockElements)) {
        v = fetch<T>(arrays.x, arrays.dtype, at + c, n, x_scratch);
        if (F::kOfTerm) exp_along(n, v, m, y), v = y;
      }
      finish_along<F>(n, v, m, of_sum, y);
      put<T>(arrays.out, arrays.dtype, at + c, n, y);
    }
    return 0;
  }

  double group(int64_t, int64_t n, ClassRows<T> x, ClassRows<T>, ClassRows<T> out) const {
    double sum[kPositions];
    T m[kPositions], of_sum[kPositions], x_scratch[kPositions], y_scratch[kPositions];
    for (int64_t l = 0; l < n; ++l) sum[l] = 0;
    max_of_group(x, arrays.classes, n, m, x_scratch);
    const bool kept = keeps(out.dtype);
    for (int64_t c = 0; c < arrays.classes; ++c)
      exp_across(n, x.load(c, n, x_scratch), m, kept ? out.place(c, y_scratch) : y_scratch, sum);
    of_sums<F>(n, sum, of_sum);
    for (int64_t c = 0; c < arrays.classes; ++c) {
      T* y = out.place(c, y_scratch);
      const T* v = y;
      if (!kept) {
        v = x.load(c, n, x_scratch);
        if (F::kOfTerm) exp_across(n, v, m, y, sum), v = y;
      }
      finish_across<F>(n, v, m, of_sum, y);
      out.store(c, n, y);
    }
    return 0;
  }
};

template <class F, class T>
[[gnu::noinline]] T share_along(int64_t n, const T* dy, const T* y) {
  T lanes[kLanes];
  for (int l = 0; l < kLanes; ++l) lanes[l] = T(0);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma GCC ivdep
    for (int l = 0; l < kLanes; ++l) lanes[l] += F::share(dy[i + l], y[i + l]);
  }
  const int rest = int(n - i);
#pragma GCC ivdep
  for (int l = 0; l < rest; ++l) lanes[l] += F::share(dy[i + l], y[i + l]);
  return fold<kLanes>(lanes, Plus{});
}
template <class F, class T>
[[gnu::noinline]] void share_across(int64_t n, const T* dy, const T* y, double* sum) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) sum[l] += double(F::share(dy[l], y[l]));
}
template <class F, class T>
[[gnu::noinline]] void gradient_along(int64_t n, const T* dy, const T* y, T sum, T* dx) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) dx[i] = F::backward(dy[i], y[i], sum);
}
template <class F, class T>
[[gnu::noinline]] void gradient_across(int64_t n, const T* dy, const T* y, const double* sum,
                                       T* dx) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) dx[l] = F::backward(dy[l], y[l], T(sum[l]));
}

template <class T, template <class> class Formula>
struct SoftmaxBackwardWork {
  using F = Formula<T>;
  RowArrays arrays;  // x: y; other: dy

  explicit SoftmaxBackwardWork(const AlongClasses& c)
      : arrays{c.outer, c.classes, c.inner, c.dtype, c.x, c.dy, c.out} {}

  double row(int64_t r) const {
    const int64_t classes = arrays.classes, at = r * classes;
    T y_scratch[kBlockElements], dy_scratch[kBlockElements];
    const auto each_block = [&](auto f) {
      for (int64_t c = 0; c < classes; c += kBlockElements) {
        const int64_t n = smaller(kBlockElements, classes - c);
        f(at + c, n, fetch<T>(arrays.x, arrays.dtype, at + c, n, y_scratch),
          fetch<T>(arrays.other, arrays.dtype, at + c, n, dy_scratch));
      }
    };
    double sum = 0;
    each_block([&](int64_t, int64_t n, const T* y, const T* dy) {
      sum += double(share_along<F>(n, dy, y));
    });
    each_block([&](int64_t begin, int64_t n, const T* y, const T* dy) {
      T* dx = same_dtype<T>(arrays.dtype) ? static_cast<T*>(arrays.out) + begin : y_scratch;
      gradient_along<F>(n, dy, y, T(sum), dx);
      put<T>(arrays.out, arrays.dtype, begin, n, dx);
    });
    return 0;
  }

  double group(int64_t, int64_t n, ClassRows<T> y, ClassRows<T> dy, ClassRows<T> out) const {
    double sum[kPositions];
    T y_scratch[kPositions], dy_scratch[kPositions], dx_scratch[kPositions];
    for (int64_t l = 0; l < n; ++l) sum[l] = 0;
    for (int64_t c = 0; c < arrays.classes; ++c)
      share_across<F>(n, dy.load(c, n, dy_scratch), y.load(c, n, y_scratch), sum);
    for (int64_t c = 0; c < arrays.classes; ++c) {
      T* dx = out.place(c, dx_scratch);
      gradient_across<F>(n, dy.load(c, n, dy_scratch), y.load(c, n, y_scratch), sum, dx);
      out.store(c, n, dx);
    }
    return 0;
  }
};

template <class T>
using SoftmaxForward = SoftmaxWork<T, Softmax>;
template <class T>
using LogSoftmaxForward = SoftmaxWork<T, LogSoftmax>;
template <class T>
using SoftmaxGradient = SoftmaxBackwardWork<T, Softmax>;
template <class T>
using LogSoftmaxGradient = SoftmaxBackwardWork<T, LogSoftmax>;

}  // namespace rows

void softmax(const AlongClasses& call) {
  call.logarithm ? rows::walk_rows<rows::LogSoftmaxForward>(call)
                 : rows::walk_rows<rows::SoftmaxForward>(call);
}
void softmax_backward(const AlongClasses& call) {
  call.logarithm ? rows::walk_rows<rows::LogSoftmaxGradient>(call)
                 : rows::walk_rows<rows::SoftmaxGradient>(call);
}

}  // namespace
ONEPASS_END

ONEPASS_CPU_UNIT(softmax) {
  using namespace onepass::ONEPASS_ISA;
  backend->softmax = &softmax;
  backend->softmax_backward = &softmax_backward;
}
