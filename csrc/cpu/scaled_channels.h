// The rare channels whose x or g must be scaled by a power of two (kernels/norm_range.h): their
// parameters, and their sums, which are computed again. Each channel is handled separately, so its
// neighbours keep their bits.
#pragma once
#include "cpu/sum_pass.h"
#include "kernels/shares.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

template <class T, class Rows>
bool any_leaves_range(int64_t n, Rows saved, const T* scale) {
  int64_t any = 0;  // no early exit: it would not vectorise
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k)
    any |= leaves_range(saved.mean()[k], saved.rstd()[k], scale[k]) ? 1 : 0;
  return any != 0;
}
template <class T>
bool any_sum_leaves_range(int64_t n, const double* s, const double* q) {
  int64_t any = 0;
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k)
    any |= sum_leaves_range<T>(s[k]) | sum_leaves_range<T>(q[k]) ? 1 : 0;
  return any != 0;
}
template <class T>
bool any_moments_scale(int64_t n, const double* s, const double* q, const T* first, double count,
                       double eps) {
  int64_t any = 0;
#pragma GCC ivdep
  for (int64_t k = 0; k < n; ++k)
    any |= moments_scale<T>(s[k], q[k], double(first[k]), count, eps) != 0 ? 1 : 0;
  return any != 0;
}

template <class R, class Call>
struct ScaledChannels {
  using T = typename Call::Type;
  using Range = NormRange<T>;

  const Call& call;

  // The affine parameters of a region, where a channel leaves the range.
  [[gnu::noinline]] void parameters(const Region& r, SavedRows<R, T> saved, const double* weight,
                                    const double* bias, Parameters<T> p) const {
    const int64_t n = channel_count(call.cut, r);
    T mean[kUnits] = {}, rstd[kUnits] = {}, scale[kUnits] = {}, shift[kUnits] = {}, by[kUnits] = {};
    for (int64_t k = 0; k < n; ++k) {
      auto s = saved[k];
      auto a = R::affine(s, weight[k], bias[k]);
      const bool scales = leaves_range(s.mean, s.rstd, a.scale);
      if (scales) {
        s = in_range<T>(s);
        a = R::affine(s, weight[k], bias[k]);
      }
      mean[k] = a.mean;
      rstd[k] = s.rstd;
      scale[k] = a.scale;
      shift[k] = a.shift;
      by[k] = scales ? Range::kDown : T(1);
    }
    spread(call.cut, n, mean, p.mean);
    spread(call.cut, n, rstd, p.rstd);
    spread(call.cut, n, scale, p.scale);
    spread(call.cut, n, shift, p.shift);
    spread(call.cut, n, by, p.x_scale);
    for (int64_t k = 0; k < n; ++k) by[k] = by[k] == T(1) ? T(1) : Range::kGradientDown;
    spread(call.cut, n, by, p.g_scale);
  }

  // Replaces sums that overflowed or vanished by those of x·scale; scale 0: they are as they were.
  [[gnu::noinline]] void moment_sums(const Region& r, double* s, double* q, const T* first,
                                     Parameters<T> p, double* scale) const {
    const int64_t n = channel_count(call.cut, r);
    T by[kUnits] = {}, shift[kUnits] = {};
    double again_s[kUnits] = {}, again_q[kUnits] = {};
    for (int64_t k = 0; k < n; ++k) {
      scale[k] = moments_scale<T>(s[k], q[k], double(first[k]), count(), call.norm.eps);
      by[k] = scale[k] != 0 ? T(scale[k]) : T(1);
      shift[k] = first[k] * by[k];
    }
    spread(call.cut, n, by, p.x_scale);
    spread(call.cut, n, shift, p.shift);
    Care care;
    care.exact = true;
    care.scale_x = Range::kMoments != 1;
    sum_again(r, p, care, again_s, again_q);
    for (int64_t k = 0; k < n; ++k) {
      by[k] = T(1);  // the apply pass decides anew
      if (scale[k] == 0) continue;
      s[k] = again_s[k];
      q[k] = again_q[k];
    }
    spread(call.cut, n, by, p.x_scale);
  }
  // Replaces the moments that follow from them.
  [[gnu::noinline]] void moments(const Region& r, double* s, double* q, const T* first,
                                 Parameters<T> p, SavedRows<R, T> saved, double* mean,
                                 double* unbiased) const {
    double scale[kUnits] = {};
    moment_sums(r, s, q, first, p, scale);
    const double count = this->count();
    for (int64_t k = 0; k < channel_count(call.cut, r); ++k) {
      if (scale[k] == 0) continue;
      const auto m =
          moments_in_range<R>(s[k], q[k], double(first[k]), scale[k], 1 / count, call.norm.eps);
      saved.set(k, m.saved);
      mean[k] = m.mean;
      unbiased[k] = m.variance * R::bessel(count);
    }
  }

  // Gradients of weight and bias, and the correction, where x is scaled or a sum leaves the range.
  // s and q become dbias and dweight.
  [[gnu::noinline]] void gradients(const Region& r, double* s, double* q, bool scaled,
                                   SavedRows<R, T> saved, Parameters<T> p, T* level,
                                   T* slope) const {
    const int64_t n = channel_count(call.cut, r);
    T x_scale[kUnits] = {}, g_scale[kUnits] = {};
    bool again[kUnits] = {};
    const bool any = scales(r, s, q, scaled, p, again, x_scale, g_scale);
    double again_s[kUnits] = {}, again_q[kUnits] = {};
    Care care;
    care.scale_x = care.scale_g = true;
    if (any) sum_again(r, p, care, again_s, again_q);
    for (int64_t k = 0; k < n; ++k) {
      const double by = double(g_scale[k]);
      const double sum = again[k] ? again_s[k] : s[k] * by;
      const double product = again[k] ? again_q[k] : q[k] * by;
      const auto row = x_scale[k] == T(1) ? saved[k] : in_range<T>(saved[k]);
      const auto of = R::gradients(row, sum, product, 1 / count());
      s[k] = sum / by;
      q[k] = of.dweight / by;
      level[k] = of.level;
      slope[k] = of.slope;
    }
  }
  // The correction alone, from Σg and dweight of all shares.
  [[gnu::noinline]] void corrections(const Region& r, const double* s, const double* q, double part,
                                     bool scaled, SavedRows<R, T> saved, Parameters<T> p, T* level,
                                     T* slope) const {
    T x_scale[kUnits] = {}, g_scale[kUnits] = {};
    bool leaves[kUnits] = {};
    scales(r, s, q, scaled, p, leaves, x_scale, g_scale);
    for (int64_t k = 0; k < channel_count(call.cut, r); ++k) {
      const double by = double(g_scale[k]);
      const auto row = x_scale[k] == T(1) ? saved[k] : in_range<T>(saved[k]);
      const auto of = R::gradients_of(row, s[k] * by, q[k] * by, part);
      level[k] = of.level;
      slope[k] = of.slope;
    }
  }

 private:
  double count() const { return double(call.norm.outer) * double(call.norm.inner); }

  // The scales of channels whose x is scaled or whose sums leave the range: those that `leaves`
  // says; returns whether there are any.
  bool scales(const Region& r, const double* s, const double* q, bool scaled, Parameters<T> p,
              bool* leaves, T* x_scale, T* g_scale) const {
    const int64_t n = channel_count(call.cut, r);
    bool any = false;
    for (int64_t k = 0; k < n; ++k) {
      leaves[k] = sum_leaves_range<T>(s[k]) || sum_leaves_range<T>(q[k]);
      any = any || leaves[k];
      x_scale[k] = scaled ? p.x_scale[k * call.cut.spread] : T(1);
      g_scale[k] = leaves[k] || x_scale[k] != T(1) ? Range::kGradientDown : T(1);
    }
    spread(call.cut, n, x_scale, p.x_scale);
    spread(call.cut, n, g_scale, p.g_scale);
    return any;
  }

  // The channels' sums over all rows, whatever the blocks.
  void sum_again(const Region& r, Parameters<T> p, Care care, double* s, double* q) const {
    double unit_s[kUnits] = {}, unit_q[kUnits] = {};
    const SumPass<Call> sum{call};
    const int64_t step = call.cut.planes() ? kPlanes : r.units();
    for (int64_t u = 0; u < r.units(); u += step) {
      const int64_t unit = r.unit + u, end = smaller(unit + step, r.unit_end);
      const Region all{0, 0, call.cut.rows + (call.cut.tail ? 1 : 0), unit, end};
      sum.add_region(all, p.from(u), unit_s + u, unit_q + u, care);
    }
    channel_sums(call.cut, r, unit_s, 0, 1, s);
    channel_sums(call.cut, r, unit_q, 0, 1, q);
  }
};

}  // namespace normalise
}  // namespace
ONEPASS_END
