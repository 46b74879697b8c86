// The activation of a call, which a kernel learns from its arguments: a new activation adds no
// kernel.
//
// All of them are large: a kernel holds them once for each direction, in a function of a few
// elements that every path calls.
#pragma once
#include "core/signature.h"
#include "cuda/device.h"
#include "kernels/activation_list.h"

ONEPASS_BEGIN
namespace {

// The activations that a kernel holds: all, but for the simulator's builds with checks, which
// would take minutes longer to compile.
#ifdef ONEPASS_SIM_FEW
using HeldActivations = List<Identity, Relu, LeakyRelu>;
#else
using HeldActivations = Activations;
#endif

constexpr int kActivationOptions = 2;
template <template <class> class... A>
int64_t option_count(int32_t activation, List<A...>) {
  static_assert(((decltype(A<float>::hyper)::size <= kActivationOptions) && ...));
  constexpr int64_t kCounts[] = {int64_t(decltype(A<float>::hyper)::size)...};
  return kCounts[activation];
}

struct ChosenActivation {
  int32_t index;  // in Activations
  double options[kActivationOptions];

  static ChosenActivation of(int32_t index, const double* options) {
    ChosenActivation chosen{index, {}};
    const int64_t count = option_count(index, Activations{});
    for (int64_t i = 0; i < count; ++i) chosen.options[i] = options[i];
    return chosen;
  }
};

// What a called function takes and returns, in registers.
template <class T, int N>
struct Few {
  T v[N];
};
template <class T>
struct Options {
  T v[kActivationOptions];
  ONEPASS_DEVICE explicit Options(const ChosenActivation& a) {
    ONEPASS_UNROLL
    for (int i = 0; i < kActivationOptions; ++i) v[i] = T(a.options[i]);
  }
};

template <class T, class F, template <class> class... A>
ONEPASS_DEVICE void choose(int32_t index, Options<T> options, F f, List<A...>) {
  int32_t i = 0;
  ((i++ == index && (f(make_functor<A<T>, T>(options.v)), true)) || ...);
}
template <class T, int N>
ONEPASS_DEVICE_APART Few<T, N> forward_of(int32_t index, Options<T> options, Few<T, N> z) {
  choose(
      index, options,
      [&](auto activation) {
        ONEPASS_UNROLL
        for (int i = 0; i < N; ++i) z.v[i] = activation.forward(z.v[i]);
      },
      HeldActivations{});
  return z;
}
template <class T, int N>
ONEPASS_DEVICE_APART Few<T, N> backward_of(int32_t index, Options<T> options, Few<T, N> g,
                                           Few<T, N> z) {
  choose(
      index, options,
      [&](auto activation) {
        ONEPASS_UNROLL
        for (int i = 0; i < N; ++i) g.v[i] = activation.backward(g.v[i], z.v[i]);
      },
      HeldActivations{});
  return g;
}

// Elements of one call: two, whose instructions wait for different results; double has half as
// many registers and twice the code.
template <class T, int W>
constexpr int kFew = sizeof(T) == 4 && W % 2 == 0 ? 2 : 1;

// v[w] = f(v[w]) of the activation f.
template <int W, class T>
ONEPASS_DEVICE void activate(const ChosenActivation& f, T* v) {
  constexpr int N = kFew<T, W>;
  ONEPASS_UNROLL
  for (int w = 0; w < W; w += N) {
    Few<T, N> few;
    ONEPASS_UNROLL
    for (int i = 0; i < N; ++i) few.v[i] = v[w + i];
    few = forward_of<T, N>(f.index, Options<T>(f), few);
    ONEPASS_UNROLL
    for (int i = 0; i < N; ++i) v[w + i] = few.v[i];
  }
}
// g[w] = f'(z[w])·g[w].
template <int W, class T>
ONEPASS_DEVICE void activate_backward(const ChosenActivation& f, const T* z, T* g) {
  constexpr int N = kFew<T, W>;
  ONEPASS_UNROLL
  for (int w = 0; w < W; w += N) {
    Few<T, N> few, at;
    ONEPASS_UNROLL
    for (int i = 0; i < N; ++i) {
      few.v[i] = g[w + i];
      at.v[i] = z[w + i];
    }
    few = backward_of<T, N>(f.index, Options<T>(f), few, at);
    ONEPASS_UNROLL
    for (int i = 0; i < N; ++i) g[w + i] = few.v[i];
  }
}

// The same for the epilogue of a call. Identity and ReLU are small, and all that light ones have.
template <int W, class T, class Call>
ONEPASS_DEVICE void activate_in(const Call& call, T* v) {
  if (call.activation.index == Epilogue::kIdentity) return;
  if (Call::is_light || call.activation.index == Epilogue::kRelu) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) v[w] = Relu<T>{}.forward(v[w]);
  } else {
    activate<W>(call.activation, v);
  }
}
// For another one than Identity, which needs no z.
template <int W, class T, class Call>
ONEPASS_DEVICE void activate_backward_in(const Call& call, const T* z, T* g) {
  if (Call::is_light || call.activation.index == Epilogue::kRelu) {
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) g[w] = Relu<T>{}.backward(g[w], z[w]);
  } else {
    activate_backward<W>(call.activation, z, g);
  }
}

}  // namespace
ONEPASS_END
