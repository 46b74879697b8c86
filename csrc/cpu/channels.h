// Per-channel loops of the normalise driver: parameters of the affine part and of dx, the way from
// sums to them, and between channels and the units of a region. R: the rule.
#pragma once
#include "cpu/cut.h"
#include "cpu/scaled_runs.h"
#include "cpu/uniform.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

// The parameters of the elements, one value per unit of a region.
template <class T>
struct Parameters {
  T *mean, *rstd, *scale, *shift;  // z = (x - mean)·scale + shift
  T *level, *slope;                // dx = scale·(g - level - (x - mean)·slope)
  T *x_scale, *g_scale;            // of scaled regions only: kernels/norm_range.h

  static constexpr int64_t kCount = 8;
  static Parameters in(T* memory, int64_t units) {
    return {memory,
            memory + units,
            memory + 2 * units,
            memory + 3 * units,
            memory + 4 * units,
            memory + 5 * units,
            memory + 6 * units,
            memory + 7 * units};
  }
  ONEPASS_HD Parameters from(int64_t u) const {
    return {mean + u,  rstd + u,  scale + u,   shift + u,
            level + u, slope + u, x_scale + u, g_scale + u};
  }
};

// The powers of two that a run of x and g meets, if any does.
template <class P>
struct Scales {
  bool any;
  P x, g;
};
template <class T>
ONEPASS_HD Scales<const T*> scales_of(Parameters<T> p, bool any, const T*) {
  return {any, p.x_scale, p.g_scale};
}
template <class T>
ONEPASS_HD Scales<Uniform<T>> scales_of(Parameters<T> p, bool any, Uniform<T>) {
  return {any, {any ? *p.x_scale : T(1)}, {any ? *p.g_scale : T(1)}};
}
// The rows of ChannelNorm::saved from a channel on.
template <class R, class T>
struct SavedRows {
  using Saved = typename R::Saved;
  T* rows;
  int64_t channels;
  ONEPASS_HD const T* mean() const { return rows; }
  ONEPASS_HD const T* rstd() const { return rows + 2 * channels; }
  ONEPASS_HD Saved operator[](int64_t k) const {
    return R::Rows::template load<Saved>(rows + k, channels);
  }
  ONEPASS_HD void set(int64_t k, const Saved& saved) const {
    R::Rows::store(saved, rows + k, channels);
  }
};

template <class R, class T>
void statistics_of_channels(int64_t n, const double* sum, const double* squares, const T* shift,
                            double part, double bessel, double eps, SavedRows<R, T> saved,
                            double* mean, double* unbiased) {
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k) {
    const auto m = R::moments(sum[k], squares[k], part);
    saved.set(k, R::save(double(shift[k]), m.offset, m.variance, eps));
    mean[k] = double(shift[k]) + m.offset;
    unbiased[k] = m.variance * bessel;
  }
}
template <class R>
void running_of_channels(int64_t n, const double* value, double momentum, double* running) {
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k) running[k] = R::running(running[k], value[k], momentum);
}
template <class R, class T>
void renormalise_channels(int64_t n, const double* running_mean, const double* running_var,
                          double eps, double rmax, double dmax, SavedRows<R, T> saved) {
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k)
    saved.set(k, R::renormalise(saved[k], running_mean[k], running_var[k], eps, rmax, dmax));
}
template <class R, class T>
void affine_of_channels(int64_t n, SavedRows<R, T> saved, const double* weight, const double* bias,
                        T* scale, T* shift) {
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k) {
    const auto a = R::affine(saved[k], weight[k], bias[k]);
    scale[k] = a.scale;
    shift[k] = a.shift;
  }
}
// q: Σ g·(x - mean)·rstd, replaced by dweight.
template <class R, class T>
void gradients_of_channels(int64_t n, const double* s, double* q, double part,
                           SavedRows<R, T> saved, T* level, T* slope) {
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k) {
    const auto of = R::gradients(saved[k], s[k], q[k], part);
    q[k] = of.dweight;
    level[k] = of.level;
    slope[k] = of.slope;
  }
}

// The same from Σg and dweight, which stays.
template <class R, class T>
void corrections_of_channels(int64_t n, const double* s, const double* dweight, double part,
                             SavedRows<R, T> saved, T* level, T* slope) {
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k) {
    const auto of = R::gradients_of(saved[k], s[k], dweight[k], part);
    level[k] = of.level;
    slope[k] = of.slope;
  }
}
// To the value of the batch; a norm without running statistics has none to move.
template <class R>
void move_running(const ChannelVector& v, int64_t first, int64_t n, const double* value,
                  double momentum) {
  if (!v.data) return;
  double running[kUnits];
  load_channels(v, first, n, 0, running);
  running_of_channels<R>(n, value, momentum, running);
  store_channels(v, first, n, running);
}

// From channels to the units of a region.
template <class T>
void spread(const Cut& cut, int64_t channels, const T* from, T* units) {
  if (cut.spread == 1) {
    for (int64_t r = 0; r < cut.repeat; ++r)
      store_run<T, T>(units + r * channels, from, 1, channels);
    return;
  }
  const int64_t copies = cut.spread;
  for (int64_t r = 0; r < cut.repeat; ++r)
    for (int64_t k = 0; k < channels; ++k, units += copies) {
      const T value = from[k];
      for (int64_t j = 0; j < copies; ++j) units[j] = value;
    }
}
// In kFolds chains: one of n additions takes as long as their latencies.
ONEPASS_HD double fold_units(const double* at, int64_t n) {
  constexpr int kFolds = 8;
  double folds[kFolds] = {};
  int64_t i = 0;
  for (; i + kFolds <= n; i += kFolds)
    for (int f = 0; f < kFolds; ++f) folds[f] += at[i + f];
  for (int f = 0; i < n; ++i, ++f) folds[f] += at[i];
  return ((folds[0] + folds[4]) + (folds[1] + folds[5])) +
         ((folds[2] + folds[6]) + (folds[3] + folds[7]));
}
// From the units of a region, in every block, to channels.
void channel_sums(const Cut& cut, const Region& r, const double* from, int64_t stride,
                  int64_t blocks, double* sum) {
  double added[kUnits];
  const double* units = from;
  const int64_t n = r.units(), channels = channel_count(cut, r);
  for (int64_t b = 1; b < blocks; ++b, units = added) {
    const double* block = from + b * stride;
#pragma GCC ivdep
    for (int64_t u = 0; u < n; ++u) added[u] = units[u] + block[u];
  }
  for (int64_t k = 0; k < channels; ++k) sum[k] = 0;
  for (int64_t i = 0; i < cut.repeat; ++i) {
    const double* at = units + i * channels * cut.spread;
    if (cut.spread == 1) {
#pragma GCC ivdep
      for (int64_t k = 0; k < channels; ++k) sum[k] += at[k];
    } else {
      for (int64_t k = 0; k < channels; ++k) sum[k] += fold_units(at + k * cut.spread, cut.spread);
    }
  }
}

}  // namespace normalise
}  // namespace
ONEPASS_END
