// sgd: g += weight_decay·p; b = momentum·b + (1 - dampening)·g, on the first step b = g;
//      p -= lr·(g + momentum·b) with Nesterov, else p -= lr·b; without a buffer p -= lr·g.
// Sutskever et al., On the importance of initialization and momentum in deep learning, 2013, in
// PyTorch's form: lr stands outside the buffer.
#pragma once
#include "core/rule.h"

ONEPASS_BEGIN

struct Sgd : Rule {
  static constexpr const char* name = "sgd";
  static constexpr auto operands = names("params", "grads");
  static constexpr auto optional = names("momentum_buffers");
  static constexpr auto hyper =
      names("lr", "momentum", "dampening", "weight_decay", "nesterov", "step");

  template <class T, class Buffer>
  struct Kernel {
    T lr, momentum, keep, weight_decay;
    bool nesterov, first;
    ONEPASS_HD Kernel(double lr_, double momentum_, double dampening, double weight_decay_,
                      double nesterov_, double step)
        : lr(T(lr_)),
          momentum(T(momentum_)),
          keep(T(1 - dampening)),
          weight_decay(T(weight_decay_)),
          nesterov(nesterov_ != 0),
          first(step <= 1) {}

    ONEPASS_HD void operator()(T& p, T g, Buffer b) const {
      const T d = g + weight_decay * p;
      if constexpr (is_present<Buffer>) {
        const T moved = momentum * b + keep * d;
        const T buffer = first ? d : moved;  // selected: an uninitialised buffer may hold NaN
        const T ahead = d + momentum * buffer;
        b = buffer;
        p -= lr * (nesterov ? ahead : buffer);
      } else {
        p -= lr * d;
      }
    }
  };
};

ONEPASS_END
