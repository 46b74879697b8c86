// Per-channel steps between the passes over a region: parameters before its sums, results after
// them.
#pragma once
#include "cpu/scaled_channels.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

// R: the rule, of which Call::Rule has the formulas of elements.
template <class R, class Call>
struct ChannelStep {
  using T = typename Call::Type;

  const Call& call;

  double count() const { return double(call.norm.outer) * double(call.norm.inner); }
  SavedRows<R, T> saved(int64_t channel) const {
    return {static_cast<T*>(call.norm.saved) + channel, call.norm.channels};
  }
  // Returns whether x must be scaled.
  bool affine_parameters(const Region& r, Parameters<T> p) const {
    const int64_t first = first_channel(call.cut, r), n = channel_count(call.cut, r);
    double weight[kUnits], bias[kUnits];
    load_channels(call.norm.weight, first, n, 1, weight);
    load_channels(call.norm.bias, first, n, 0, bias);
    T scale[kUnits], shift[kUnits];
    if constexpr (Call::kScales) {
      const SavedRows<R, T> s = saved(first);
      affine_of_channels(n, s, weight, bias, scale, shift);
      if (any_leaves_range(n, s, scale)) {
        ScaledChannels<R, Call>{call}.parameters(r, s, weight, bias, p);
        return true;
      }
      spread(call.cut, n, s.mean(), p.mean);
      spread(call.cut, n, scale, p.scale);
      if (Call::kBackward) spread(call.cut, n, s.rstd(), p.rstd);
    } else {
      for (int64_t k = 0; k < n; ++k) shift[k] = T(bias[k]);
    }
    spread(call.cut, n, shift, p.shift);
    return false;
  }

  // prepare() and finish() return whether the region is scaled from then on.
  bool prepare(const Region& r, Parameters<T> p) const {
    if (call.statistics()) {
      moment_shifts(r, p);
      return false;
    }
    const bool scaled = affine_parameters(r, p);
    if constexpr (Call::kBackward && Call::kScales)
      if (call.part() == Part::rest) return take_sums(r, p, scaled);
    return scaled;
  }
  bool finish_forward(const Region& r, double* s, double* q, Parameters<T> p) const {
    const int64_t first = first_channel(call.cut, r), n = channel_count(call.cut, r);
    T shift[kUnits];
    double mean[kUnits], variance[kUnits];
    first_elements(first, n, shift);
    if (call.part() == Part::sums) {
      leave_moments(r, s, q, shift, p);
      return false;
    }
    statistics_of_channels(n, s, q, shift, 1 / count(), R::bessel(count()), call.norm.eps,
                           saved(first), mean, variance);
    if (any_moments_scale(n, s, q, shift, count(), call.norm.eps))
      ScaledChannels<R, Call>{call}.moments(r, s, q, shift, p, saved(first), mean, variance);
    if constexpr (R::kRenormalises) renormalise(first, n);
    move_running<R>(call.norm.running_mean, first, n, mean, call.norm.momentum);
    move_running<R>(call.norm.running_var, first, n, variance, call.norm.momentum);
    return affine_parameters(r, p);
  }
  // For the other shares. This and the other functions of shares are kept out of line, so that the
  // code of a norm without shares compiles as if they were not there.
  [[gnu::noinline]] void leave_moments(const Region& r, double* s, double* q, const T* shift,
                                       Parameters<T> p) const {
    const int64_t first = first_channel(call.cut, r), n = channel_count(call.cut, r);
    double scale[kUnits] = {};
    if (any_moments_scale(n, s, q, shift, count(), call.norm.eps))
      ScaledChannels<R, Call>{call}.moment_sums(r, s, q, shift, p, scale);
    // A scale is 0 where the sums are in range, so that moment_sums has left them as they were.
    for (int64_t k = 0; k < n; ++k)
      leave(first + k,
            share_of_sums(count(), s[k], q[k], double(shift[k]), scale[k] == 0 ? 1 : scale[k]));
  }
  template <class Share>
  void leave(int64_t channel, const Share& share) const {
    Share::Rows::store(share, call.norm.shares + channel, call.norm.channels);
  }
  // By the running statistics before they move.
  void renormalise(int64_t first, int64_t n) const {
    double mean[kUnits], variance[kUnits];
    load_channels(call.norm.running_mean, first, n, 0, mean);
    load_channels(call.norm.running_var, first, n, 1, variance);
    renormalise_channels(n, mean, variance, call.norm.eps, call.norm.rmax, call.norm.dmax,
                         saved(first));
  }
  bool finish_backward(const Region& r, double* s, double* q, Parameters<T> p, bool scaled) const {
    const int64_t first = first_channel(call.cut, r), n = channel_count(call.cut, r);
    if constexpr (Call::kScales) {
      T level[kUnits], slope[kUnits];
      if (scaled || any_sum_leaves_range<T>(n, s, q)) {
        ScaledChannels<R, Call>{call}.gradients(r, s, q, scaled, saved(first), p, level, slope);
        scaled = true;
      } else {
        gradients_of_channels(n, s, q, 1 / count(), saved(first), level, slope);
      }
      store_channels(call.norm.dweight, first, n, q);
      spread(call.cut, n, level, p.level);
      spread(call.cut, n, slope, p.slope);
      if (call.part() == Part::sums) leave_sums(first, n, s, q);
    }
    store_channels(call.norm.dbias, first, n, s);
    return scaled;
  }
  [[gnu::noinline]] void leave_sums(int64_t first, int64_t n, const double* s,
                                    const double* q) const {
    for (int64_t k = 0; k < n; ++k) leave(first + k, ShareSums{count(), s[k], q[k]});
  }
  // The correction of dx from the sums of all shares.
  [[gnu::noinline]] bool take_sums(const Region& r, Parameters<T> p, bool scaled) const {
    const int64_t first = first_channel(call.cut, r), n = channel_count(call.cut, r);
    double s[kUnits], q[kUnits], part = 0;
    T level[kUnits], slope[kUnits];
    for (int64_t k = 0; k < n; ++k) {
      const auto all =
          added_shares(call.norm.shares + first + k, call.norm.share_count, call.norm.channels);
      s[k] = all.g;
      q[k] = all.gx;
      part = 1 / all.count;  // the same for all channels
    }
    if (scaled || any_sum_leaves_range<T>(n, s, q)) {
      ScaledChannels<R, Call>{call}.corrections(r, s, q, part, scaled, saved(first), p, level,
                                                slope);
      scaled = true;
    } else {
      corrections_of_channels(n, s, q, part, saved(first), level, slope);
    }
    spread(call.cut, n, level, p.level);
    spread(call.cut, n, slope, p.slope);
    return scaled;
  }
  bool finish(const Region& r, const double* s, const double* q, int64_t stride, int64_t blocks,
              Parameters<T> p, bool scaled) const {
    double sum_s[kUnits], sum_q[kUnits];
    channel_sums(call.cut, r, s, stride, blocks, sum_s);
    channel_sums(call.cut, r, q, stride, blocks, sum_q);
    if constexpr (Call::kBackward) return finish_backward(r, sum_s, sum_q, p, scaled);
    if constexpr (Call::kForward && Call::kScales) return finish_forward(r, sum_s, sum_q, p);
    return scaled;
  }
  void first_elements(int64_t channel, int64_t n, T* out) const {
    if (call.norm.inner == 1) {
      const T* from = fetch<T>(call.norm.x, call.norm.dtype, channel, n, out);
      if (from != out) store_run<T, T>(out, from, 1, n);
    } else {
      for (int64_t k = 0; k < n; ++k)
        out[k] =
            *fetch<T>(call.norm.x, call.norm.dtype, (channel + k) * call.norm.inner, 1, out + k);
    }
  }

  // The moments' shifts, in a row of parameters that the apply pass does not need yet.
  void moment_shifts(const Region& r, Parameters<T> p) const {
    T first[kUnits];
    const int64_t channels = channel_count(call.cut, r);
    first_elements(first_channel(call.cut, r), channels, first);
    spread(call.cut, channels, first, p.shift);
  }
};

}  // namespace normalise
}  // namespace
ONEPASS_END
