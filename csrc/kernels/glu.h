// glu: y = a·f(b), a and b the halves of x along an axis, f any activation; da = dy·f(b),
// db = (dy·a)·f'(b).
// Dauphin, Fan, Auli & Grangier, Language Modeling with Gated Convolutional Networks, 2017
// (sigmoid); Shazeer, GLU Variants Improve Transformer, 2020.
//
// Each backend calls f in its own way, so the functors are in cpu/glu.cpp and cuda/glu.cuh.
#pragma once
#include "core/signature.h"

ONEPASS_BEGIN

// a·f(b); of dy in place of a it is da, of dy and a what f'(b) multiplies.
template <class T>
ONEPASS_HD T gated(T a, T gate) {
  return a * gate;
}

// The index of f in Activations, and its options, as many as the longest list has.
constexpr auto kGluHyper = names("activation", "option", "option");
constexpr int kGluOptions = int(kGluHyper.size) - 1;

ONEPASS_END
