// lars: r = trust·‖p‖/(‖g‖ + weight_decay·‖p‖ + eps), 1 where a norm is 0;
//   d = r·(g + weight_decay·p);  b = momentum·b + d
//   p -= lr·(d + momentum·b) with Nesterov, else p -= lr·b; without a buffer p -= lr·d
// Where momentum is 0 the buffer stays as it is: another group has one.
// The norms are those of each tensor. You et al., Large Batch Training of Convolutional Networks,
// 2017.
#pragma once
#include "core/math.h"
#include "core/rule.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct Lars : Rule {
  static constexpr const char* name = "lars";
  static constexpr auto operands = names("params", "grads");
  static constexpr auto optional = names("momentum_buffers");
  static constexpr auto hyper =
      names("lr", "momentum", "weight_decay", "trust_coefficient", "eps", "nesterov");
  static constexpr auto norms = names("params", "grads");

  template <class T, class Buffer>
  struct Measure {
    ONEPASS_HD Measure(double, double, double, double, double, double) {}
    ONEPASS_HD Terms<T, 2> operator()(T p, T g, Buffer) const { return {{p, g}}; }
  };

  template <class T, class Buffer>
  struct Kernel {
    double trust, decay, eps;
    T lr, momentum, weight_decay, ratio;
    T moves;  // -1 with momentum, else 1: a choice by a bool would not be vectorised
    bool nesterov;
    ONEPASS_HD Kernel(double lr_, double momentum_, double weight_decay_, double trust_,
                      double eps_, double nesterov_)
        : trust(trust_),
          decay(weight_decay_),
          eps(eps_),
          lr(T(lr_)),
          momentum(T(momentum_)),
          weight_decay(T(weight_decay_)),
          ratio(T(1)),
          moves(T(momentum_ != 0 ? -1 : 1)),
          nesterov(nesterov_ != 0) {}
    ONEPASS_HD void take(const double* norms) {
      const double p = norms[0], g = norms[1];
      ratio = T(p == 0 || g == 0 ? 1 : trust * p / (g + decay * p + eps));
    }

    ONEPASS_HD T kept() const { return T(1); }

    ONEPASS_HD void operator()(T& p, T g, Buffer b) const {
      const T d = ratio * with_decay(g, weight_decay, p);
      if constexpr (is_present<Buffer>) {
        // Selected: without momentum the buffer is not read, and 0 · Inf would be NaN.
        const T buffer = math::where_negative(moves, momentum * b + d, d);
        const T ahead = d + momentum * buffer;
        b = math::where_negative(moves, buffer, b);
        p -= lr * (nesterov ? ahead : buffer);
      } else {
        p -= lr * d;
      }
    }
  };
};

ONEPASS_END
