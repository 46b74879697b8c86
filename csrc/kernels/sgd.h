// sgd: g += weight_decay·p; b = momentum·b + (1 - dampening)·g, on the first step b = g;
//      p -= lr·(g + momentum·b) with Nesterov, else p -= lr·b; without a buffer p -= lr·g.
// Decoupled p *= 1 - lr·weight_decay first. Where momentum is 0 the buffer stays as it is, and is
// not read: another group has one.
// Sutskever et al., On the importance of initialization and momentum in deep learning, 2013, in
// PyTorch's form: lr stands outside the buffer; Keras and Chainer have it inside (lr_inside), where
// the first step sets b = lr·g.
#pragma once
#include "core/math.h"
#include "core/rule.h"
#include "kernels/weight_decay.h"

ONEPASS_BEGIN

struct Sgd : Rule {
  static constexpr const char* name = "sgd";
  static constexpr auto operands = names("params", "grads");
  static constexpr auto optional = names("momentum_buffers");
  static constexpr auto hyper = names("lr", "momentum", "dampening", "weight_decay", "nesterov",
                                      "decoupled_weight_decay", "lr_inside", "step");

  template <class T, class Buffer>
  struct Kernel {
    T lr, momentum, keep, coupled, shrink;
    T moves;  // -1 with momentum, else 1: a choice by a bool would not be vectorised
    bool nesterov, fresh;
    ONEPASS_HD Kernel(double lr_, double momentum_, double dampening, double weight_decay,
                      double nesterov_, double decoupled, double lr_inside, double step)
        : lr(T(is_present<Buffer> && lr_inside != 0 ? 1 : lr_)),
          momentum(T(momentum_)),
          keep(T((step > 1 ? 1 - dampening : 1) * (lr_inside != 0 ? lr_ : 1))),
          coupled(T(decoupled != 0 ? 0 : weight_decay)),
          shrink(T(decoupled != 0 ? 1 - lr_ * weight_decay : 1)),
          moves(T(momentum_ != 0 ? -1 : 1)),
          nesterov(nesterov_ != 0),
          fresh(step <= 1 || momentum_ == 0) {}

    ONEPASS_HD T kept() const { return shrink; }

    ONEPASS_HD void operator()(T& p, T g, Buffer b) const {
      const T d = with_decay(g, coupled, p);
      if constexpr (is_present<Buffer>) {
        const T own = keep * d;
        const T moved = momentum * b + own;
        const T buffer = fresh ? own : moved;     // selected: the one that is held may be NaN
        const T ahead = own + momentum * buffer;  // there is no dampening
        const T to = p * shrink - lr * (nesterov ? ahead : buffer);
        b = math::where_negative(moves, buffer, b);
        p = to;
      } else {
        p = p * shrink - lr * d;
      }
    }
  };
};

ONEPASS_END
