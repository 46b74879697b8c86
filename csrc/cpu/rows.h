// The rows driver: cross entropy over the classes of (outer, classes, inner), value and gradient in
// one visit, while the logits are in cache.
//
// Long contiguous rows are taken one by one, with lanes along the classes. Short rows, and classes
// that lie `inner` apart, are taken with lanes along positions; short rows are transposed into a
// tile for that. exp(x − m) waits where the gradient will stand; 16-bit storage could not hold it
// and computes it again. Losses are added in double, in order, task by task; tasks follow from
// sizes alone.
#pragma once
#include "cpu/dense.h"
#include "cpu/epilogue.h"
#include "cpu/loops.h"
#include "kernels/cross_entropy.h"

ONEPASS_BEGIN
namespace {
namespace rows {

void set_loss(const CrossEntropy& call, double loss) { store_channels(call.loss, 0, 1, &loss); }

using cross_entropy_formula::Smoothing;

constexpr int kLanes = 32;           // along a row
constexpr int64_t kShortRow = 48;    // classes up to which rows are transposed
constexpr int64_t kTile = 64;        // rows transposed at a time
constexpr int64_t kPositions = 256;  // positions taken at a time
constexpr int64_t kTaskElements = 16 << 10;
constexpr int64_t kMostTasks = 512;  // their partial losses live on the caller's stack

// ---- leaves along a row

// Halves onto halves; a function for each width, since a loop over widths does not vectorise.
template <int kWidth, class T, class Op>
ONEPASS_HD T fold(const T* lanes, Op op) {
  if constexpr (kWidth == 1) {
    return lanes[0];
  } else {
    T half[kWidth / 2];
    for (int l = 0; l < kWidth / 2; ++l) half[l] = op(lanes[l], lanes[l + kWidth / 2]);
    return fold<kWidth / 2>(half, op);
  }
}
struct Larger {
  template <class T>
  ONEPASS_HD T operator()(T a, T b) const {
    return b > a ? b : a;
  }
};
struct Plus {
  template <class T>
  ONEPASS_HD T operator()(T a, T b) const {
    return a + b;
  }
};

// Twice the lanes of a sum, each of which waits for its last maximum; what is left of a long row
// is taken with elements already seen.
template <class T>
T max_along(int64_t n, const T* x, T most) {
  constexpr int kWide = 2 * kLanes;
  T lanes[kWide];
  for (int l = 0; l < kWide; ++l) lanes[l] = most;
  if (n < kWide) {
    for (int64_t i = 0; i < n; ++i) lanes[i] = Larger{}(lanes[i], x[i]);
  } else {
    for (int64_t i = 0; i < n; i += kWide) {
      const T* from = x + smaller(i, n - kWide);
#pragma GCC ivdep
      for (int l = 0; l < kWide; ++l) lanes[l] = Larger{}(lanes[l], from[l]);
    }
  }
  return fold<kWide>(lanes, Larger{});
}

// e = exp(x − m); returns their sum. e may be x.
template <class T>
T exp_along(int64_t n, const T* x, T m, T* e) {
  T lanes[kLanes];
  for (int l = 0; l < kLanes; ++l) lanes[l] = T(0);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma GCC ivdep
    for (int l = 0; l < kLanes; ++l) {
      const T v = cross_entropy_formula::term(x[i + l], m);
      e[i + l] = v;
      lanes[l] += v;
    }
  }
  const int rest = int(n - i);
#pragma GCC ivdep
  for (int l = 0; l < rest; ++l) {
    const T v = cross_entropy_formula::term(x[i + l], m);
    e[i + l] = v;
    lanes[l] += v;
  }
  return fold<kLanes>(lanes, Plus{});
}

// Σq and Σ q·(x − m).
template <class T>
struct Shares {
  T total, weighted;
};
template <class T, class P>
Shares<T> share_along(int64_t n, const T* x, T m, const T* weight, P probability, Smoothing<T> s) {
  T total[kLanes], weighted[kLanes];
  for (int l = 0; l < kLanes; ++l) total[l] = weighted[l] = T(0);
  for (int64_t i = 0; i < n; i += kLanes) {
    const int k = int(smaller(kLanes, n - i));
#pragma GCC ivdep
    for (int l = 0; l < k; ++l) {
      const T q = cross_entropy_formula::target(probability[i + l], weight[i + l], s);
      total[l] += q;
      weighted[l] += cross_entropy_formula::share(q, x[i + l] - m);
    }
  }
  return {fold<kLanes>(total, Plus{}), fold<kLanes>(weighted, Plus{})};
}

template <class T>
void gradient_along(int64_t n, const T* e, T factor, T* d) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) d[i] = e[i] * factor;
}
template <class T, class P>
void gradient_along(int64_t n, const T* e, T factor, T reduction, const T* weight, P probability,
                    Smoothing<T> s, T* d) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const T q = cross_entropy_formula::target(probability[i], weight[i], s);
    d[i] = cross_entropy_formula::gradient(e[i], factor, reduction * q);
  }
}

// ---- leaves across positions

template <class T>
void max_across(int64_t n, const T* x, T* m) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) m[l] = Larger{}(m[l], x[l]);
}
template <class T>
void exp_across(int64_t n, const T* x, const T* m, T* e, double* sum) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    const T v = cross_entropy_formula::term(x[l], m[l]);
    e[l] = v;
    sum[l] += double(v);
  }
}
template <class T, class P>
void share_across(int64_t n, const T* x, const T* m, T weight, P probability, Smoothing<T> s,
                  double* total, double* weighted) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    const T q = cross_entropy_formula::target(probability[l], weight, s);
    total[l] += double(q);
    weighted[l] += double(cross_entropy_formula::share(q, x[l] - m[l]));
  }
}
// A position whose reduction is 0 is ignored: its gradient is 0, whatever its logits.
template <class T>
void gradient_across(int64_t n, const T* e, const T* factor, const T* reduction,
                     const int32_t* label, int32_t c, const T* hot, T* d) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    const T q = label[l] == c ? hot[l] : T(0);
    const T v = cross_entropy_formula::gradient(e[l], factor[l], q);
    d[l] = reduction[l] == T(0) ? T(0) : v;
  }
}
template <class T, class P>
void gradient_across(int64_t n, const T* e, const T* factor, const T* reduction,
                     const int32_t* label, int32_t c, const T* hot, T weight, P probability,
                     Smoothing<T> s, T* d) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    const T at_label = label[l] == c ? hot[l] : T(0);
    const T q = reduction[l] * cross_entropy_formula::target(probability[l], weight, s) + at_label;
    const T v = cross_entropy_formula::gradient(e[l], factor[l], q);
    d[l] = reduction[l] == T(0) ? T(0) : v;
  }
}
// The ends of a position: loss, and what its gradient is made of.
template <class T>
void finish_across(int64_t n, const T* m, const double* sum, const double* total,
                   const double* weighted, const T* picked, T* hot, const T* reduction, T* factor,
                   T* loss) {
#pragma GCC ivdep
  for (int64_t l = 0; l < n; ++l) {
    const T all = T(total[l]) + hot[l], exps = T(sum[l]);
    const T shares = T(weighted[l]) + cross_entropy_formula::share(hot[l], picked[l] - m[l]);
    const T value = cross_entropy_formula::loss(all, exps, shares);
    loss[l] = reduction[l] == T(0) ? T(0) : value;
    factor[l] = all / exps * reduction[l];
    hot[l] = hot[l] * reduction[l];
  }
}

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

template <class T>
struct Job {
  const CrossEntropy& call;
  Smoothing<T> smoothing;
  bool plain;  // labels without smoothing: q is zero but at the label
  T reduction;
  int64_t positions;       // outer · inner
  int64_t task_positions;  // a multiple of kTile
  double* partial;         // of the tasks

  explicit Job(const CrossEntropy& c)
      : call(c),
        smoothing(Smoothing<T>::of(c.label_smoothing, c.classes)),
        plain(c.labels && c.label_smoothing == 0),
        positions(c.outer * c.inner) {
    const int64_t wanted = larger(kTaskElements / c.classes, ceil_div(positions, kMostTasks));
    task_positions = ceil_div(larger(wanted, 1), unit()) * unit();
  }
  // Positions a task is cut in.
  int64_t unit() const { return call.inner > 1 || call.classes > kShortRow ? 1 : kTile; }
  int64_t tasks() const { return ceil_div(positions, task_positions); }

  T class_weight(int64_t c) const {
    if (!call.weight.data) return T(1);
    double w = 0;
    load_channels(call.weight, c, 1, 1, &w);
    return T(w);
  }
  const T* class_weights(int64_t c, int64_t n, T* scratch) const {
    if (call.weight.data && same_dtype<T>(call.weight.dtype))
      return static_cast<const T*>(call.weight.data) + c;
    double wide[kBlockElements];
    load_channels(call.weight, c, n, 1, wide);
    for (int64_t i = 0; i < n; ++i) scratch[i] = T(wide[i]);
    return scratch;
  }
  bool ignored(int64_t position) const {
    return call.labels && call.labels[position] == call.ignore_index;
  }
  void store_losses(int64_t position, int64_t n, const T* loss) const {
    if (call.reduction == Reduction::none) put<T>(call.losses, call.dtype, position, n, loss);
  }

  // -- one long row; e waits in dlogits where that can hold it

  double row(int64_t r) const {
    const int64_t classes = call.classes, at = r * classes;
    T x_scratch[kBlockElements], e_scratch[kBlockElements];
    if (ignored(r)) {
      clear_row(at, e_scratch);
      const T zero = 0;
      store_losses(r, 1, &zero);
      return 0;
    }
    T m = *fetch<T>(call.logits, call.dtype, at, 1, x_scratch);
    for (int64_t c = 0; c < classes; c += kBlockElements) {
      const int64_t n = smaller(kBlockElements, classes - c);
      m = max_along(n, fetch<T>(call.logits, call.dtype, at + c, n, x_scratch), m);
    }
    T hot = 0, picked = 0;
    if (call.labels) {
      hot = smoothing.hot * class_weight(call.labels[r]);
      picked = *fetch<T>(call.logits, call.dtype, at + call.labels[r], 1, x_scratch);
    }
    Shares<T> shares{hot, cross_entropy_formula::share(hot, picked - m)};
    const bool keeps = call.dlogits && same_dtype<T>(call.dtype);
    double sums = 0;  // of blocks
    for (int64_t c = 0; c < classes; c += kBlockElements) {
      const int64_t n = smaller(kBlockElements, classes - c);
      const T* x = fetch<T>(call.logits, call.dtype, at + c, n, x_scratch);
      if (!plain) add_shares(at, c, n, x, m, &shares);
      sums += exp_along(n, x, m, keeps ? static_cast<T*>(call.dlogits) + at + c : e_scratch);
    }
    const T sum = T(sums);
    if (call.dlogits) {
      const T factor = shares.total / sum * reduction;
      for (int64_t c = 0; c < classes; c += kBlockElements) {
        const int64_t n = smaller(kBlockElements, classes - c);
        T* e = keeps ? static_cast<T*>(call.dlogits) + at + c : e_scratch;
        if (!keeps && classes > kBlockElements)
          exp_along(n, fetch<T>(call.logits, call.dtype, at + c, n, x_scratch), m, e);
        row_gradient(at, c, n, factor, e);
        const int64_t label = call.labels ? call.labels[r] - c : -1;
        if (label >= 0 && label < n) e[label] -= hot * reduction;
        put<T>(call.dlogits, call.dtype, at + c, n, e);
      }
    }
    const T loss = cross_entropy_formula::loss(shares.total, sum, shares.weighted);
    store_losses(r, 1, &loss);
    return double(loss);
  }
  void clear_row(int64_t at, T* scratch) const {
    if (!call.dlogits) return;
    for (int64_t i = 0; i < kBlockElements; ++i) scratch[i] = T(0);
    for (int64_t c = 0; c < call.classes; c += kBlockElements)
      put<T>(call.dlogits, call.dtype, at + c, smaller(kBlockElements, call.classes - c), scratch);
  }
  void add_shares(int64_t at, int64_t c, int64_t n, const T* x, T m, Shares<T>* shares) const {
    T w_scratch[kBlockElements], p_scratch[kBlockElements];
    const T* weight = class_weights(c, n, w_scratch);
    Shares<T> more;
    if (call.probabilities) {
      const T* p = fetch<T>(call.probabilities, call.dtype, at + c, n, p_scratch);
      more = share_along(n, x, m, weight, p, smoothing);
    } else {
      more = share_along(n, x, m, weight, Uniform<T>{T(0)}, smoothing);
    }
    shares->total += more.total;
    shares->weighted += more.weighted;
  }
  void row_gradient(int64_t at, int64_t c, int64_t n, T factor, T* e) const {
    if (plain) return gradient_along(n, e, factor, e);
    T w_scratch[kBlockElements], p_scratch[kBlockElements];
    const T* weight = class_weights(c, n, w_scratch);
    if (call.probabilities) {
      const T* p = fetch<T>(call.probabilities, call.dtype, at + c, n, p_scratch);
      gradient_along(n, e, factor, reduction, weight, p, smoothing, e);
    } else {
      gradient_along(n, e, factor, reduction, weight, Uniform<T>{T(0)}, smoothing, e);
    }
  }

  // -- positions side by side, n <= kPositions

  double group(int64_t position, int64_t n, ClassRows<T> logits, ClassRows<T> probabilities,
               ClassRows<T> dlogits) const {
    double sum[kPositions], total[kPositions], weighted[kPositions];
    T m[kPositions], hot[kPositions], picked[kPositions], keep[kPositions];
    T factor[kPositions], loss[kPositions];
    T x_scratch[kPositions], e_scratch[kPositions], p_scratch[kPositions];
    int32_t label[kPositions];
    for (int64_t l = 0; l < n; ++l) {
      sum[l] = total[l] = weighted[l] = 0;
      hot[l] = picked[l] = T(0);
      keep[l] = ignored(position + l) ? T(0) : reduction;
      label[l] = -1;
    }
    if (call.labels) {
      for (int64_t l = 0; l < n; ++l) {
        if (ignored(position + l)) continue;
        const int64_t y = call.labels[position + l];
        label[l] = int32_t(y);
        hot[l] = smoothing.hot * class_weight(y);
        picked[l] = *fetch<T>(logits.data, logits.dtype, y * logits.stride + l, 1, x_scratch);
      }
    }
    const T* x = logits.load(0, n, x_scratch);
    for (int64_t l = 0; l < n; ++l) m[l] = x[l];
    for (int64_t c = 1; c < call.classes; ++c) max_across(n, logits.load(c, n, x_scratch), m);

    const bool keeps = dlogits.data && same_dtype<T>(dlogits.dtype);
    for (int64_t c = 0; c < call.classes; ++c) {
      x = logits.load(c, n, x_scratch);
      if (!plain && call.probabilities) {
        const T* p = probabilities.load(c, n, p_scratch);
        share_across(n, x, m, class_weight(c), p, smoothing, total, weighted);
      } else if (!plain) {
        const Uniform<T> none{T(0)};
        share_across(n, x, m, class_weight(c), none, smoothing, total, weighted);
      }
      exp_across(n, x, m, keeps ? dlogits.place(c, e_scratch) : e_scratch, sum);
    }
    finish_across(n, m, sum, total, weighted, picked, hot, keep, factor, loss);
    if (dlogits.data) {
      for (int64_t c = 0; c < call.classes; ++c) {
        T* d = dlogits.place(c, e_scratch);
        if (!keeps) exp_across(n, logits.load(c, n, x_scratch), m, d, sum);
        if (plain) {
          gradient_across(n, d, factor, keep, label, int32_t(c), hot, d);
        } else if (call.probabilities) {
          const T* p = probabilities.load(c, n, p_scratch);
          gradient_across(n, d, factor, keep, label, int32_t(c), hot, class_weight(c), p, smoothing,
                          d);
        } else {
          const Uniform<T> none{T(0)};
          gradient_across(n, d, factor, keep, label, int32_t(c), hot, class_weight(c), none,
                          smoothing, d);
        }
        dlogits.store(c, n, d);
      }
    }
    store_losses(position, n, loss);
    double added = 0;
    for (int64_t l = 0; l < n; ++l) added += double(loss[l]);
    return added;
  }

  ClassRows<T> class_rows(const void* data, int64_t element) const {
    if (!data) return {nullptr, call.dtype, 0};
    char* at = static_cast<char*>(const_cast<void*>(data)) + element * size_of(call.dtype);
    return {at, call.dtype, call.inner};
  }
  double strided(int64_t position, int64_t n) const {
    const int64_t outer = position / call.inner, inner = position % call.inner;
    const int64_t element = outer * call.classes * call.inner + inner;
    return group(position, n, class_rows(call.logits, element),
                 class_rows(call.probabilities, element), class_rows(call.dlogits, element));
  }

  // Up to kTile short rows: transposed, worked on, transposed back.
  double tile(int64_t r, int64_t n) const {
    T x_tile[kShortRow * kTile], p_tile[kShortRow * kTile], scratch[kShortRow * kTile];
    const int64_t at = r * call.classes, count = n * call.classes;
    const DType native = dtype_of<T>::value;
    transpose(fetch<T>(call.logits, call.dtype, at, count, scratch), n, x_tile);
    if (call.probabilities)
      transpose(fetch<T>(call.probabilities, call.dtype, at, count, scratch), n, p_tile);
    const ClassRows<T> x{x_tile, native, kTile}, p{p_tile, native, kTile};
    const double loss = group(r, n, x, p, {call.dlogits ? x_tile : nullptr, native, kTile});
    if (call.dlogits) {
      T* d = same_dtype<T>(call.dtype) ? static_cast<T*>(call.dlogits) + at : scratch;
      for (int64_t l = 0; l < n; ++l) {
#pragma GCC unroll 8
        for (int64_t c = 0; c < call.classes; ++c) d[l * call.classes + c] = x_tile[c * kTile + l];
      }
      put<T>(call.dlogits, call.dtype, at, count, d);
    }
    return loss;
  }
  void transpose(const T* x, int64_t n, T* to) const {
    for (int64_t l = 0; l < n; ++l)
      for (int64_t c = 0; c < call.classes; ++c) to[c * kTile + l] = x[l * call.classes + c];
  }

  // -- tasks

  static void loss_task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const FlushDenormals flush;
    const int64_t begin = index * job.task_positions;
    const int64_t end = smaller(begin + job.task_positions, job.positions);
    double loss = 0;
    for (int64_t p = begin; p < end;) {
      int64_t n = 1;
      if (job.call.inner > 1) {
        n = smaller(smaller(kPositions, end - p), job.call.inner - p % job.call.inner);
        loss += job.strided(p, n);
      } else if (job.call.classes <= kShortRow) {
        n = smaller(kTile, end - p);
        loss += job.tile(p, n);
      } else {
        loss += job.row(p);
      }
      p += n;
    }
    job.partial[index] = loss;
  }
  // The weights of the labels that count.
  static void weight_task(void* context, int64_t index) {
    const Job& job = *static_cast<const Job*>(context);
    const int64_t begin = index * job.task_positions;
    const int64_t end = smaller(begin + job.task_positions, job.positions);
    double sum = 0;
    for (int64_t p = begin; p < end; ++p) {
      const bool counts = job.call.labels[p] != job.call.ignore_index;
      if (!job.call.weight.data) {
        sum += counts ? 1.0 : 0.0;
      } else if (counts) {
        double w = 0;
        load_channels(job.call.weight, job.call.labels[p], 1, 1, &w);
        sum += w;
      }
    }
    job.partial[index] = sum;
  }
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

  void run() {
    double partials[kMostTasks + 1];
    partial = partials;
    double denominator = 1;
    if (call.reduction == Reduction::mean)
      denominator = call.labels ? add_tasks(&weight_task, positions <= 8 * kSerialElements)
                                : double(positions);
    reduction = T(1 / denominator);
    const double sum = add_tasks(&loss_task, positions * call.classes <= kSerialElements);
    if (call.reduction != Reduction::none) set_loss(call, sum / denominator);
  }
};

}  // namespace rows

void cross_entropy(const CrossEntropy& call) {
  if (call.outer * call.inner * call.classes == 0) {
    const double none = 0;
    if (call.reduction == Reduction::mean) rows::set_loss(call, none / none);
    if (call.reduction == Reduction::sum) rows::set_loss(call, 0);
    return;
  }
  if (call.dtype == DType::f64) {
    rows::Job<double>(call).run();
  } else {
    rows::Job<float>(call).run();
  }
}

}  // namespace
ONEPASS_END
