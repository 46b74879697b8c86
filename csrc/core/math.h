// Elementary functions for float and double: branch-free, so that loops vectorise, and with the
// same bits on every instruction set and on CUDA.
//
// They use only + - * / sqrt, muladd(), integer operations, comparisons and selects, each rounded
// on its own (compile with -ffp-contract=off, --fmad=false). NaN gives NaN, +-Inf the limit, odd
// functions keep the sign of zero, results underflow gradually. Coefficients are minimax fits for
// these intervals, made with Sollya's fpminimax (Brisebarre, Chevillard, "Efficient polynomial
// L-infinity approximations", ARITH 2007).
// "Error: a, b ulp" is the largest error found in float (exp: every value; others: every value in
// 2^-6 to 2^5, one in 101 elsewhere) and in double (12 million values); tests/test_core.py holds
// them.
#pragma once
#include "basic.h"
#include "erf.h"
#include "exp.h"
#include "log.h"
#include "power.h"
