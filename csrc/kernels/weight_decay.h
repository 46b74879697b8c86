// Adds a weight decay to the direction of an update: d + decay·p. Without a decay nothing is added,
// because 0·p would be NaN for an infinite parameter, such as the -Inf that masks a logit.
#pragma once
#include "core/hd.h"

ONEPASS_BEGIN

template <class T>
ONEPASS_HD T with_decay(T d, T decay, T p) {
  return decay != T(0) ? d + decay * p : d;
}

ONEPASS_END
