// An update that moves only the elements where it agrees in sign with the gradient.
// Liang et al., Cautious Optimizers: Improving Training with One Line of Code, 2024, without the
// rescaling of what is left. A decoupled weight decay is not part of the update and always happens.
#pragma once
#include "core/hd.h"

ONEPASS_BEGIN

// `before` and `after` the update; the decay alone would leave before · keep. Compares instead of
// multiplying: a product of small numbers may be zero. A NaN stays.
template <class T>
ONEPASS_HD T cautious(T before, T after, T g, T keep) {
  const T from = before * keep;
  const bool against = (after >= from && g >= T(0)) || (after <= from && g <= T(0));
  return against ? from : after;
}

ONEPASS_END
