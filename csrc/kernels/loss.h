// A loss of elements is a struct template over the computing type with `name`, `hyper` (its
// options), `ranges` (one for each option) and operator()(x, t), which returns the loss of one
// element with input x and target t, and its derivative by x. It may also have
//
//   pos_weight     operator()(x, t, w) also takes an element of pos_weight, which broadcasts to the
//                  input; w = 1 without one
//   probabilities  input and target lie from 0 to 1
//   batch_mean     the reduction "batchmean" exists, which divides the sum by the number of samples
//   flag()         its only option chooses between two formulas: the structs Yes and No, which have
//                  operator() alone. Loops on the CPU are of one: vectorised, they would compute
//                  both
//
// The drivers (cpu/pointwise_loss.h, cuda/pointwise_loss.cuh) reduce the losses and scale the
// derivatives.
#pragma once
#include "core/math.h"
#include "core/signature.h"

ONEPASS_BEGIN

template <class T>
struct LossTerm {
  T loss, gradient;
};

// The range of an option. A flag arrives as 0 or 1.
enum class OptionRange { from_zero, above_zero, flag };

template <class L, class = void>
constexpr bool kHasPosWeight = false;
template <class L>
constexpr bool kHasPosWeight<L, std::void_t<decltype(L::pos_weight)>> = L::pos_weight;
template <class L, class = void>
constexpr bool kTakesProbabilities = false;
template <class L>
constexpr bool kTakesProbabilities<L, std::void_t<decltype(L::probabilities)>> = L::probabilities;

template <class L, class = void>
constexpr bool kHasBatchMean = false;
template <class L>
constexpr bool kHasBatchMean<L, std::void_t<decltype(L::batch_mean)>> = L::batch_mean;

template <class L, class = void>
constexpr bool kHasFlag = false;
template <class L>
constexpr bool kHasFlag<L, std::void_t<typename L::Yes>> = true;

// The loss of an element, and its derivative times `scale`.
template <class L, class T>
ONEPASS_HD LossTerm<T> loss_term(const L& loss, T x, T t, [[maybe_unused]] T w, T scale) {
  LossTerm<T> term;
  if constexpr (kHasPosWeight<L>) {
    term = loss(x, t, w);
  } else {
    term = loss(x, t);
  }
  return {term.loss, term.gradient * scale};
}

// NaN is let through.
template <class T>
ONEPASS_HD bool no_probability(T v) {
  return v < T(0) || v > T(1);
}

namespace loss_parts {

// 1, -1, or d itself if it is 0 or NaN.
template <class T>
ONEPASS_HD T direction(T d) {
  return d > T(0) ? T(1) : d < T(0) ? T(-1) : d;
}
// q·v, a share of the loss at x; without a share 0, even if v is not finite.
template <class T>
ONEPASS_HD T share(T q, T v, T x) {
  const T none = x == x ? T(0) : x;
  return q == T(0) ? none : q * v;
}

}  // namespace loss_parts
ONEPASS_END
