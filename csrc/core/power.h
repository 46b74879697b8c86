// Powers with a real exponent; `power` in basic.h has the integer exponents.
#pragma once
#include "exp.h"
#include "log.h"

ONEPASS_BEGIN
namespace math {

// x^y for x >= 0 and y >= 0, with 0^0 = 1: a whole power times exp of the rest, so that a whole y
// needs no logarithm.
ONEPASS_HD double real_power(double x, double y) {
  const auto whole = uint64_t(min(y, 0x1p62));
  const double rest = y - double(whole), least = power(x, whole);
  return rest > 0 ? least * exp(rest * log(x)) : least;
}

}  // namespace math
ONEPASS_END
