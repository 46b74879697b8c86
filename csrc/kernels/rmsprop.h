// rmsprop: g += weight_decay·p;  v = α·v + (1 - α)·g²;  centred: a += (1 - α)·(g - a)
//   d = g / (√(v - a²) + eps);  with a buffer b = momentum·b + d, p -= lr·b;  else p -= lr·d
// A constant gradient makes v - a² vanish. Rounding may leave it below 0: it counts as 0 then,
// where PyTorch has NaN. Tieleman & Hinton, Lecture 6.5, 2012; Graves, Generating Sequences, 2013
// (centred), in PyTorch's form: eps stands outside the root, lr outside the buffer.
#pragma once
#include "core/math.h"
#include "core/rule.h"

ONEPASS_BEGIN

struct Rmsprop : Rule {
  static constexpr const char* name = "rmsprop";
  static constexpr auto operands = names("params", "grads", "square_avgs");
  static constexpr auto optional = names("momentum_buffers", "grad_avgs");
  static constexpr auto hyper = names("lr", "alpha", "eps", "weight_decay", "momentum");

  template <class T, class Buffer, class Average>
  struct Kernel {
    T lr, alpha, gain, eps, weight_decay, momentum;
    ONEPASS_HD Kernel(double lr_, double alpha_, double eps_, double weight_decay_,
                      double momentum_)
        : lr(T(lr_)),
          alpha(T(alpha_)),
          gain(T(1 - alpha_)),
          eps(T(eps_)),
          weight_decay(T(weight_decay_)),
          momentum(T(momentum_)) {}

    ONEPASS_HD void operator()(T& p, T g, T& v, Buffer b, Average a) const {
      g = g + weight_decay * p;
      const T square = alpha * v + gain * g * g;
      T under = square, mean = T(0);
      if constexpr (is_present<Average>) {
        mean = a + gain * (g - a);
        under = math::at_least(square - mean * mean, T(0));
      }
      T d = g / (math::sqrt(under) + eps);
      if constexpr (is_present<Buffer>) d = momentum * b + d;
      const T to = p - lr * d;
      v = square;
      if constexpr (is_present<Average>) a = mean;
      if constexpr (is_present<Buffer>) b = d;
      p = to;
    }
  };
};

ONEPASS_END
