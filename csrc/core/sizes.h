// Arithmetic of sizes: in 64 bits, unless another type is named, as in smaller<int32_t>(a, b).
#pragma once
#include "hd.h"

ONEPASS_BEGIN

template <class I>
struct Same {  // arguments of this type say nothing about I
  using Type = I;
};
template <class I = int64_t>
ONEPASS_HD constexpr I ceil_div(typename Same<I>::Type a, typename Same<I>::Type b) {
  return (a + b - 1) / b;
}
template <class I = int64_t>
ONEPASS_HD constexpr I smaller(typename Same<I>::Type a, typename Same<I>::Type b) {
  return a < b ? a : b;
}
template <class I = int64_t>
ONEPASS_HD constexpr I larger(typename Same<I>::Type a, typename Same<I>::Type b) {
  return a > b ? a : b;
}
ONEPASS_HD constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

ONEPASS_END
