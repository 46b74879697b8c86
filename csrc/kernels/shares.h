// A batch norm over a batch that lies in several shares, one for each rank of a data-parallel run.
// Each share leaves what follows of its own elements, and then takes that of all, in the same order
// everywhere, so that every rank has the same statistics.
//
// Forward: the moments of a channel, merged as in Chan, Golub & LeVeque, Algorithms for Computing
// the Sample Variance, 1983. Backward: its sums.
#pragma once
#include "kernels/batch_norm.h"
#include "kernels/moments_range.h"

ONEPASS_BEGIN

// Of x·scale, a power of two: 1 but in rare channels (moments_range.h). The mean is mean + lost.
struct ShareMoments {
  double count, mean, lost, squares, scale;  // squares: Σ(x - mean)²
  using Rows = Members<&ShareMoments::count, &ShareMoments::mean, &ShareMoments::lost,
                       &ShareMoments::squares, &ShareMoments::scale>;
  static ONEPASS_HD ShareMoments none() { return {0, 0, 0, 0, 1}; }
};

// Of `count` elements, from the sums of d·scale and (d·scale)², d = x - first.
ONEPASS_HD ShareMoments share_of_sums(double count, double sum, double squares, double first,
                                      double scale) {
  const double offset = sum * (1 / count), about = squares - sum * offset;
  const double mean = first * scale + offset;
  return {count, mean, math::sum_error(first * scale, offset, mean), about < 0 ? 0 : about, scale};
}

ONEPASS_HD ShareMoments at_scale(ShareMoments m, double scale) {
  const double by = scale / m.scale;
  return {m.count, m.mean * by, m.lost * by, m.squares * by * by, scale};
}

ONEPASS_HD ShareMoments merged(ShareMoments a, ShareMoments b) {
  if (b.count == 0) return a;
  if (a.count == 0) return b;
  constexpr double kFar = 0x1p480;  // squares of larger distances overflow
  double scale = a.scale < b.scale ? a.scale : b.scale;
  if (a.scale != scale) a = at_scale(a, scale);
  if (b.scale != scale) b = at_scale(b, scale);
  if (math::abs(a.mean / 2 - b.mean / 2) > kFar) {
    scale *= NormRange<double>::kMoments;
    a = at_scale(a, scale);
    b = at_scale(b, scale);
  }
  const double count = a.count + b.count, part = b.count / count;
  const double distance = (b.mean - a.mean) + (b.lost - a.lost);
  const double moved = a.lost + distance * part, mean = a.mean + moved;
  return {count, mean, math::sum_error(a.mean, moved, mean),
          a.squares + b.squares + distance * distance * (a.count * part), scale};
}

// The moments of a channel over all shares; `rows` has the first row of the first one.
ONEPASS_HD ShareMoments merged_shares(const double* rows, int64_t shares, int64_t channels) {
  using Rows = ShareMoments::Rows;
  constexpr int64_t kRows = count_of(Rows{});
  ShareMoments all = ShareMoments::none();
  for (int64_t i = 0; i < shares; ++i)
    all = merged(all, Rows::load<ShareMoments>(rows + i * kRows * channels, channels));
  return all;
}

template <class R>
ONEPASS_HD MomentsInRange<R> statistics_of_shares(const ShareMoments& m, double eps) {
  const double variance = m.squares * (1 / m.count);
  return statistics_of_scaled<R>(m.mean, m.lost, variance, m.scale, eps);
}

// Σg and Σ g·x̂, x̂ by the statistics of the whole batch.
struct ShareSums {
  double count, g, gx;
  using Rows = Members<&ShareSums::count, &ShareSums::g, &ShareSums::gx>;
};
ONEPASS_HD ShareSums added_shares(const double* rows, int64_t shares, int64_t channels) {
  using Rows = ShareSums::Rows;
  constexpr int64_t kRows = count_of(Rows{});
  ShareSums all{0, 0, 0};
  for (int64_t i = 0; i < shares; ++i) {
    const auto one = Rows::load<ShareSums>(rows + i * kRows * channels, channels);
    all = {all.count + one.count, all.g + one.g, all.gx + one.gx};
  }
  return all;
}

ONEPASS_END
