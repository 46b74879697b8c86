// The rounding error of a product, or the remainder of a quotient; that of a sum.
#pragma once
#include "basic.h"

ONEPASS_BEGIN
namespace math {

// a b - p for p close to a b: of a rounded product p what it lost, of a quotient a = p / b minus
// its remainder. double multiplies halves of 26 and 27 bits (Dekker, A floating-point technique for
// extending the available precision, 1971), cut by a mask, which cannot overflow.
ONEPASS_HD float product_error(float a, float b, float p) { return muladd(a, b, -p); }

ONEPASS_HD double product_error(double a, double b, double p) {
  constexpr uint64_t upper = ~uint64_t(0) << 27;
  const double ah = from_bits(to_bits(a) & upper), al = a - ah;
  const double bh = from_bits(to_bits(b) & upper), bl = b - bh;
  return ((ah * bh - p) + ah * bl + al * bh) + al * bl;
}

// a + b - sum of the rounded sum (Knuth, TwoSum).
ONEPASS_HD double sum_error(double a, double b, double sum) {
  const double back = sum - a;
  return (a - (sum - back)) + (b - back);
}

}  // namespace math
ONEPASS_END
