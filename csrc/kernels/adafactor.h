// adafactor: β = 1 - t^beta2_decay;  ρ = min(lr, 1/√t)
//   of matrices, the last two axes: r = β·r + (1 - β)·mean g² along each row, c likewise along each
//   column, v = r·c/max(mean r, eps₁); of vectors v = β·v + (1 - β)·g²
//   u = g/max(√v, eps₁)
//   p = (1 - lr·weight_decay)·p - ρ·max(eps₂, RMS p)/max(1, RMS u/d)·u
// The RMS are those of each tensor, that of p before the decay. A negative eps₁ stands for the
// machine epsilon of the parameter's dtype. Shazeer & Stern, Adafactor: Adaptive Learning Rates
// with Sublinear Memory Cost, 2018, in PyTorch's form.
#pragma once
#include "core/math.h"
#include "core/rule.h"

ONEPASS_BEGIN

struct Adafactor : Rule {
  static constexpr const char* name = "adafactor";
  static constexpr auto operands = names("params", "grads");
  static constexpr auto hyper =
      names("lr", "beta2_decay", "eps1", "eps2", "d", "weight_decay", "step");
  static constexpr auto norms = names("params", "updates");
  static constexpr auto factors = names("row_vars", "col_vars", "variances");

  // By comparisons: a table that is indexed at run time would lie in a GPU's local memory.
  static ONEPASS_HD double eps_of(double eps1, DType dtype) {
    if (!(eps1 < 0)) return eps1;
    if (dtype == DType::f64) return 0x1p-52;
    if (dtype == DType::f16) return 0x1p-10;
    return dtype == DType::bf16 ? 0x1p-7 : 0x1p-23;
  }
  // The larger one, if `a` is a number.
  template <class T>
  static ONEPASS_HD T at_least(T a, T b) {
    return a < b ? b : a;
  }

  template <class T>
  struct Factor {
    double gain, eps1;
    ONEPASS_HD Factor(double, double beta2_decay, double eps1_, double, double, double, double step)
        : gain(1 / math::real_power(step, -beta2_decay)), eps1(eps1_) {}
    ONEPASS_HD void see(int64_t, DType dtype) { eps1 = eps_of(eps1, dtype); }
    ONEPASS_HD T operator()(T held, double mean) const {
      return T((1 - gain) * double(held) + gain * mean);
    }
    ONEPASS_HD double level(double mean) const { return at_least(mean, eps1); }
  };

  template <class T>
  struct Direction {
    double given;
    T eps1;
    ONEPASS_HD explicit Direction(double eps1_) : given(eps1_), eps1(T(eps1_)) {}
    ONEPASS_HD void see(DType dtype) { eps1 = T(eps_of(given, dtype)); }
    ONEPASS_HD T operator()(T g, T row, T column) const {
      return g / at_least(math::sqrt(row * column), eps1);
    }
  };

  template <class T>
  struct Measure {
    Direction<T> direction;
    ONEPASS_HD Measure(double, double, double eps1, double, double, double, double)
        : direction(eps1) {}
    ONEPASS_HD void see(int64_t, DType dtype) { direction.see(dtype); }
    ONEPASS_HD Terms<T, 2> operator()(T p, T g, T row, T column) const {
      return {{p, direction(g, row, column)}};
    }
  };

  template <class T>
  struct Kernel {
    Direction<T> direction;
    double rate, eps2, d, root_of_size;
    T keep, size;
    ONEPASS_HD Kernel(double lr, double, double eps1, double eps2_, double d_, double weight_decay,
                      double step)
        : direction(eps1),
          rate(math::min(lr, 1 / math::sqrt(step))),
          eps2(eps2_),
          d(d_),
          root_of_size(1),
          keep(T(1 - lr * weight_decay)),
          size(T(0)) {}
    ONEPASS_HD void see(int64_t elements, DType dtype) {
      direction.see(dtype);
      root_of_size = math::sqrt(double(elements));
    }
    // A norm that is not a number leaves eps₂ and 1, as in PyTorch: it is that of a few elements.
    ONEPASS_HD void take(const double* norms) {
      const double p = norms[0] / root_of_size, u = norms[1] / root_of_size / d;
      size = T(rate * (p > eps2 ? p : eps2) / (u > 1 ? u : 1));
    }
    ONEPASS_HD T kept() const { return keep; }
    ONEPASS_HD void operator()(T& p, T g, T row, T column) const {
      p = keep * p - size * direction(g, row, column);
    }
  };
};

ONEPASS_END
