// batch_renorm: batch norm whose training stays near what evaluation does. In training
//   z = (x̂·r + d)·weight + bias, x̂ = (x - mean)·rstd as in batch_norm,
//   r = clip(σ/σ_run, 1/rmax, rmax), d = clip((mean - running_mean)/σ_run, -dmax, dmax),
// σ = 1/rstd and σ_run = √(running_var + eps), from the running statistics before they move. They
// move as in batch_norm, and evaluation is batch_norm's. Limits of 1 and 0 leave batch_norm;
// without limits z is that of evaluation.
// r and d are constants in the gradients: dweight = r·Σ g·x̂ + d·Σg, and dx is batch_norm's times r.
// Ioffe, Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models,
// 2017.
#pragma once
#include "kernels/batch_norm.h"
#include "kernels/norm_range.h"

ONEPASS_BEGIN

template <class T>
struct BatchRenormRule : BatchNormRule<T> {
  using Norm = BatchNormRule<T>;
  static constexpr const char* name = "batch_renorm";
  static constexpr bool kRenormalises = true;

  struct Saved : Norm::Saved {
    T r, d;
  };
  using Rows = Members<&Saved::mean, &Saved::lost, &Saved::rstd, &Saved::r, &Saved::d>;

  // The statistics of evaluation, or of batch norm.
  static ONEPASS_HD Saved save(double a, double b, double variance, double eps) {
    return {Norm::save(a, b, variance, eps), T(1), T(0)};
  }

  // No limit is larger: r and d are finite.
  static constexpr double kMost = sizeof(T) == 4 ? 0x1.fffffep127 : 0x1.fffffffffffffp1023;
  static ONEPASS_HD double least(double a, double b) { return b < a ? b : a; }
  static ONEPASS_HD T clip(double x, double low, double high) {  // NaN stays
    return T(x < low ? low : x > high ? high : x);
  }
  // Sets r and d.
  static ONEPASS_HD Saved renormalise(Saved saved, double running_mean, double running_var,
                                      double eps, double rmax, double dmax) {
    const double rstd = 1 / math::sqrt(running_var + eps);
    // Halves do not overflow.
    const double half = double(saved.mean) / 2 - running_mean / 2 + double(saved.lost) / 2;
    rmax = least(rmax, kMost);
    dmax = least(dmax, kMost);
    saved.r = clip(rstd / widened(saved.rstd), 1 / rmax, rmax);
    saved.d = clip(half * rstd * 2, -dmax, dmax);
    return saved;
  }

  static ONEPASS_HD typename Norm::Affine affine(Saved saved, double weight, double bias) {
    const T scale = T(weight * (double(saved.rstd) * double(saved.r)));
    const double shift = bias + weight * double(saved.d);
    return {saved.mean, scale, T(shift - double(saved.lost) * double(scale))};
  }
  static ONEPASS_HD typename Norm::Gradients gradients(Saved saved, double sum_g, double sum_gx,
                                                       double part) {
    auto of = Norm::gradients(saved, sum_g, sum_gx, part);
    of.dweight = of.dweight * double(saved.r) + sum_g * double(saved.d);
    return of;
  }
};

ONEPASS_END
