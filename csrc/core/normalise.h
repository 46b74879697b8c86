// Decides which passes a norm over channels or a bias needs, for both CPU and CUDA.
#pragma once
#include "backend.h"
#include "hd.h"

ONEPASS_BEGIN

struct NormalisePasses {
  bool is_norm;  // else a bias
  bool backward;
  bool batch_statistics;  // of a norm: by the batch, else by the running statistics
  bool wants_dx, wants_dresidual, wants_parameters;  // parameters: dweight or dbias
  Part part;

  // Forward needs the moments of each channel.
  ONEPASS_HD bool statistics() const {
    return is_norm && !backward && batch_statistics && part != Part::rest;
  }
  // dx depends on the channel's sums of g and g·x̂, since mean and variance depend on x.
  ONEPASS_HD bool corrects() const { return is_norm && batch_statistics; }
  // A pass adds up each channel. A bias always needs it backward: it also writes dx = g.
  ONEPASS_HD bool sums() const {
    if (!backward) return statistics();
    if (part != Part::whole) return part == Part::sums;
    return wants_parameters || wants_dresidual || (wants_dx && corrects()) || !is_norm;
  }
  // A pass writes y or dx.
  ONEPASS_HD bool applies() const {
    return part != Part::sums && (!backward || (is_norm && wants_dx));
  }
  // The sum pass also writes g: the residual's gradient, or the dx of a bias.
  ONEPASS_HD bool writes_gradient() const {
    return part != Part::rest && (wants_dresidual || (!is_norm && wants_dx));
  }
};

ONEPASS_END
