// Finishes a channel of a norm: one thread turns its sums into the saved rows, the running
// statistics, the gradients of weight and bias, and the parameters of the apply pass.
#pragma once
#include "cuda/epilogue.cuh"
#include "kernels/shares.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

template <class R>
ONEPASS_DEVICE void move_running(const ChannelVector& v, int64_t c, double value, double momentum) {
  const Memory m = memory(v);
  if (m.data) store_wide(m, c, R::running(load_wide(m, c, 0), value, momentum));
}
template <class T, class Call>
ONEPASS_DEVICE void save(const Call& call, int64_t c,
                         typename Call::template Rule<T>::Saved saved) {
  Call::template Rule<T>::Rows::store(saved, static_cast<T*>(call.saved) + c, call.channels);
}
template <class T, class Call>
ONEPASS_DEVICE void save_running(const Call& call, int64_t c) {
  using R = typename Call::template Rule<T>;
  save<T>(call, c,
          R::save(load_wide(memory(call.running_mean), c, 0), 0,
                  load_wide(memory(call.running_var), c, 1), call.eps));
}
template <class Call, class Share>
ONEPASS_DEVICE void leave_share(const Call& call, int64_t c, const Share& share) {
  Share::Rows::store(share, call.shares + c, call.channels);
}
// Sums that have left the range, taken again by one thread (kernels/norm_range.h): slow, and rare.
template <class Call, class F>
ONEPASS_DEVICE void each_of_channel(const Call& call, int64_t c, F f) {
  for (int64_t o = 0; o < call.outer; ++o)
    for (int64_t i = 0; i < call.inner; ++i) f((o * call.channels + c) * call.inner + i);
}
template <class T, class Call>
ONEPASS_DEVICE void moment_sums_again(const Call& call, int64_t c, double shift, double by,
                                      double* s, double* q) {
  *s = *q = 0;
  each_of_channel(call, c, [&](int64_t at) {
    const double d = double(load_element<T>(call.in(call.x), at)) * by - shift;
    *s += d;
    *q += d * d;
  });
}
template <class T, class Call>
ONEPASS_DEVICE void gradient_sums_again(const Call& call, int64_t c, const Parameters<T>& p,
                                        double* s, double* q) {
  *s = *q = 0;
  each_of_channel(call, c, [&](int64_t at) {
    const Unit<T> unit = fetch_unit<1, T, false>(call, at, true, false);
    T g[1], x[1];
    gradient_of_unit<1, false>(call, &p, unit, call.drops() ? bits_of_mask<1>(call, at) : 0, true,
                               true, g);
    decode_x<1, false>(call, &p, true, unit.x, x);
    *s += double(g[0]);
    *q += double(Call::template Rule<T>::product(g[0], x[0], p.mean, p.rstd));
  });
}
// 1/deviation of floats may be subnormal, for which arithmetic takes zero.
template <class R, class Saved>
ONEPASS_DEVICE void keep_small(double a, double b, double variance, double eps, Saved* saved) {
  if constexpr (sizeof(Saved::rstd) == 4)
    if (saved->rstd < math::Format<float>::kMinNormal)
      saved->rstd = lower<float>(R::save(a, b, variance, eps).rstd);
}
template <class T, class Call>
ONEPASS_DEVICE void finish_moments(const Call& call, int64_t c, double s, double q) {
  using R = typename Call::template Rule<T>;
  using Wide = typename Call::template Rule<double>;
  const double shift = double(load_element<T>(call.in(call.x), c * call.inner));
  const double count = double(call.outer) * double(call.inner);
  double mean, variance;
  typename R::Saved saved;
  // Sums of floats are never out of double's range.
  const double by = sizeof(T) == 8 ? moments_scale<T>(s, q, shift, count, call.eps) : 0;
  if (call.phase == Part::sums) {
    if (by != 0) moment_sums_again<T>(call, c, shift * by, by, &s, &q);
    return leave_share(call, c, share_of_sums(count, s, q, shift, by == 0 ? 1 : by));
  }
  if (by == 0) {
    const auto m = R::moments(s, q, call.part());
    saved = R::save(shift, m.offset, m.variance, call.eps);
    mean = shift + m.offset;
    variance = m.variance;
    keep_small<Wide>(shift, m.offset, m.variance, call.eps, &saved);
  } else {
    moment_sums_again<T>(call, c, shift * by, by, &s, &q);
    const auto m = moments_in_range<R>(s, q, shift, by, call.part(), call.eps);
    saved = m.saved;
    mean = m.mean;
    variance = m.variance;
  }
  if constexpr (R::kRenormalises)
    saved =
        R::renormalise(saved, load_wide(memory(call.running_mean), c, 0),
                       load_wide(memory(call.running_var), c, 1), call.eps, call.rmax, call.dmax);
  save<T>(call, c, saved);
  move_running<R>(call.running_mean, c, mean, call.momentum);
  move_running<R>(call.running_var, c, variance * R::bessel(count), call.momentum);
}
// What finish_moments leaves, from the moments of all shares.
template <class T, class Call>
ONEPASS_DEVICE void take_moments(const Call& call, int64_t c) {
  using R = typename Call::template Rule<T>;
  using Wide = typename Call::template Rule<double>;
  const auto all = merged_shares(call.shares + c, call.share_count, call.channels);
  if (all.count == 0) return save_running<T>(call, c);
  auto of = statistics_of_shares<R>(all, call.eps);
  if (all.scale == 1) keep_small<Wide>(all.mean, all.lost, of.variance, call.eps, &of.saved);
  save<T>(call, c, of.saved);
  move_running<R>(call.running_mean, c, of.mean, call.momentum);
  move_running<R>(call.running_var, c, of.variance * R::bessel(all.count), call.momentum);
}
// The correction of dx from the sums of all shares.
template <class T, class Call>
ONEPASS_DEVICE void take_sums(const Call& call, int64_t c, Parameters<T>* p) {
  using R = typename Call::template Rule<T>;
  const auto all = added_shares(call.shares + c, call.share_count, call.channels);
  auto saved = load_saved<T>(call, c);
  if (p->x_scale != T(1)) saved = in_range<T>(saved);
  if (sum_leaves_range<T>(all.g) || sum_leaves_range<T>(all.gx))
    p->g_scale = NormRange<T>::kGradientDown;
  const double by = double(p->g_scale);
  const auto of = R::gradients_of(saved, all.g * by, all.gx * by, 1 / all.count);
  p->level = of.level;
  p->slope = of.slope;
}
// Returns whether the channel is scaled.
template <class T, bool kForward, class Call>
ONEPASS_DEVICE bool finish_channel(const Call& call, int64_t c, double s, double q) {
  using R = typename Call::template Rule<T>;
  if constexpr (!Call::is_norm) {
    (void)q;
    store_wide(memory(call.dbias), c, s);
    return false;
  } else {
    Parameters<T> p{};
    if constexpr (kForward) {
      finish_moments<T>(call, c, s, q);
      if (call.phase == Part::sums) return false;
      p = affine_parameters<T>(call, c);
    } else {
      p = affine_parameters<T>(call, c);
      auto saved = load_saved<T>(call, c);
      if (p.x_scale != T(1)) saved = in_range<T>(saved);
      if (sum_leaves_range<T>(s) || sum_leaves_range<T>(q)) {
        p.g_scale = NormRange<T>::kGradientDown;
        gradient_sums_again(call, c, p, &s, &q);
      } else if (p.scales()) {
        s *= double(p.g_scale);
        q *= double(p.g_scale);
      }
      const auto of = R::gradients(saved, s, q, call.part());
      p.level = of.level;
      p.slope = of.slope;
      store_wide(memory(call.dbias), c, s / double(p.g_scale));
      store_wide(memory(call.dweight), c, of.dweight / double(p.g_scale));
      if (call.phase == Part::sums) {
        const double count = double(call.outer) * double(call.inner), by = double(p.g_scale);
        leave_share(call, c, ShareSums{count, s / by, of.dweight / by});
      }
    }
    store_parameters(call, c, p);
    return p.scales();
  }
}

}  // namespace normalise
}  // namespace
ONEPASS_END
