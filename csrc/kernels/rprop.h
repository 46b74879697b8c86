// rprop: size *= η+ where g has the sign it had before, η- where it has the other one, and is kept
//   within [least, most];  g = 0 where the sign has changed;  p -= sign(g)·size;  prev = g
// Riedmiller & Braun, A Direct Adaptive Method for Faster Backpropagation Learning, 1993, in
// PyTorch's form. Signs are compared, not multiplied: the product of small gradients underflows.
#pragma once
#include "core/math.h"
#include "core/rule.h"

ONEPASS_BEGIN

struct Rprop : Rule {
  static constexpr const char* name = "rprop";
  // "step_sizes" is what the range of the sizes is called.
  static constexpr auto operands = names("params", "grads", "prevs", "sizes");
  static constexpr auto hyper = names("eta1", "eta2", "step_size1", "step_size2");

  template <class T>
  struct Kernel {
    T shrink, grow, least, most;
    ONEPASS_HD Kernel(double eta1, double eta2, double step_size1, double step_size2)
        : shrink(T(eta1)), grow(T(eta2)), least(T(step_size1)), most(T(step_size2)) {}

    ONEPASS_HD void operator()(T& p, T g, T& prev, T& size) const {
      const T along = g > 0 ? prev : g < 0 ? -prev : T(0);
      const T factor = along > 0 ? grow : along < 0 ? shrink : T(1);
      const T scaled = size * factor;
      const T low = scaled < least ? least : scaled;  // not math::max: its NaN costs the vectors
      const T next = low > most ? most : low;
      const T kept = along < 0 ? T(0) : g;
      const T sign = kept > 0 ? T(1) : kept < 0 ? T(-1) : kept;  // 0 and NaN stay
      const T to = p - sign * next;
      prev = kept;
      size = next;
      p = to;
    }
  };
};

ONEPASS_END
