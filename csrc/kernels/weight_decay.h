// A weight decay that is added to what an update goes along: d + decay·p. Where there is none
// nothing is added: 0·p would make an infinite parameter NaN, such as the -Inf that forbids a
// transition or masks a logit.
#pragma once
#include "core/hd.h"

ONEPASS_BEGIN

template <class T>
ONEPASS_HD T with_decay(T d, T decay, T p) {
  return decay != T(0) ? d + decay * p : d;
}

ONEPASS_END
