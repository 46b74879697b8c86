// muon: adamw for all parameters but matrices. For a matrix v holds the direction that the
// optimizer then orthogonalises:
//   m += (1 - β1)·(g - m);  v = m + look·(g - m);  p is unchanged
// look is 1 - β1 with Nesterov's momentum, else 0. Jordan et al., Muon, 2024.
#pragma once
#include "kernels/adam_rule.h"

ONEPASS_BEGIN

struct Muon : Rule {
  static constexpr const char* name = "muon";
  static constexpr auto operands = AdamRule<true>::operands;
  static constexpr auto hyper =
      names("lr", "beta1", "beta2", "eps", "weight_decay", "look", "matrix", "step");

  template <class T>
  struct Kernel {
    typename AdamRule<true>::Kernel<T, Absent> adamw;
    T look;
    bool matrix;
    ONEPASS_HD Kernel(double lr, double beta1, double beta2, double eps, double weight_decay,
                      double look_, double matrix_, double step)
        : adamw(lr, beta1, beta2, eps, weight_decay, 1, 0, 1, 0, 0, 1, 0, step),
          look(T(look_)),
          matrix(matrix_ != 0) {}

    ONEPASS_HD T kept() const { return adamw.kept(); }

    // Both are computed and one is selected: a branch would stop vectorisation, and the products
    // of matrices that follow take far longer.
    ONEPASS_HD void operator()(T& p, T g, T& m, T& v) const {
      T to = p, mean = m, square = v;
      adamw(to, g, mean, square, Absent{});
      const T direction = mean + look * (g - mean);
      m = mean;
      v = matrix ? direction : square;
      p = matrix ? p : to;
    }
  };
};

ONEPASS_END
