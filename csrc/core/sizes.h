// Arithmetic of sizes.
#pragma once
#include "hd.h"

ONEPASS_BEGIN

ONEPASS_HD constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
ONEPASS_HD constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
ONEPASS_HD constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
ONEPASS_HD constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

ONEPASS_END
