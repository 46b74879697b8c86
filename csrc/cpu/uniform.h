// A leaf's operand with one value for the whole run.
#pragma once
#include "core/hd.h"

ONEPASS_BEGIN

template <class T>
struct Uniform {
  T value;
  ONEPASS_HD T operator[](int64_t) const { return value; }
};

ONEPASS_END
