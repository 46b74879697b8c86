// Turns an activation into two elementwise kernels: y = f(x) and dx = f'(x)·dy.
//
// An activation is a struct template over the computing type with `name`, `hyper` (its options),
// `forward(x)` and `backward(dy, x)`. backward takes the input, not the output. At ±Inf it uses the
// derivative's limit, and it is NaN if x or dy is. One whose derivative follows from y also has
// `backward_y(dy, y)`. One that is much cheaper for most x also has `has_usual`, `is_usual(x)`,
// `usual_forward(x)` and `usual_backward(dy, x)`, with the same bits where is_usual holds: a CPU
// computes both ways for every x, and runs these over blocks of which all x are usual.
#pragma once
#include <type_traits>

#include "core/math.h"
#include "core/signature.h"

ONEPASS_BEGIN

template <class A, class = void>
constexpr bool has_usual = false;
template <class A>
constexpr bool has_usual<A, std::void_t<decltype(A::has_usual)>> = A::has_usual;

template <class A, class T>
struct UsualForward {
  A f;
  ONEPASS_HD T operator()(T x) const { return f.usual_forward(x); }
};
template <class A, class T>
struct UsualBackward {
  A f;
  ONEPASS_HD T operator()(T dy, T x) const { return f.usual_backward(dy, x); }
};

template <class A, class T>
struct ActivationForward {
  using Rule = A;
  using Usual = UsualForward<A, T>;
  static constexpr auto operands = names("out", "x");
  static constexpr auto hyper = A::hyper;
  A f;
  ONEPASS_HD T operator()(T x) const { return f.forward(x); }
};

template <class A, class T>
struct ActivationBackward {
  using Rule = A;
  using Usual = UsualBackward<A, T>;
  static constexpr auto operands = names("out", "dy", "x");
  static constexpr auto hyper = A::hyper;
  A f;
  ONEPASS_HD T operator()(T dy, T x) const { return f.backward(dy, x); }
};

template <class A, class T>
struct ActivationBackwardY {
  static constexpr auto operands = names("out", "dy", "y");
  static constexpr auto hyper = A::hyper;
  A f;
  ONEPASS_HD T operator()(T dy, T y) const { return f.backward_y(dy, y); }
};
template <class A, class = void>
constexpr bool has_backward_y = false;
template <class A>
constexpr bool has_backward_y<A, std::void_t<decltype(&A::backward_y)>> = true;

// The same as templates over the computing type alone, as the drivers take them.
template <template <class> class A>
struct Forward {
  template <class T>
  using Kernel = ActivationForward<A<T>, T>;
};
template <template <class> class A>
struct Backward {
  template <class T>
  using Kernel = ActivationBackward<A<T>, T>;
};
template <template <class> class A>
struct BackwardY {
  template <class T>
  using Kernel = ActivationBackwardY<A<T>, T>;
};

ONEPASS_END
