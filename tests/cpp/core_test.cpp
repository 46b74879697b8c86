// Tests of csrc/core/{math,philox,dtype}.h and csrc/cpu/keep_words.cpp, run by tests/test_core.py
// at every instruction set. Prints a line for each failure and at last a hash of all results, which
// no level may change. With the argument "accuracy" it also measures the error of each function and
// prints the largest. With "every" it prints a hash of each function over all 2^32 floats instead,
// for muladd(): to be compared by hand between levels when a coefficient changes; a minute and more
// for each. "every mish" does so for the functions with that in their names. To build it for a
// level:
//   g++ -std=c++17 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=off -march=x86-64-v2
//       -DONEPASS_ISA=v2 -Icsrc tests/cpp/core_test.cpp
#include <cfloat>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/math.h"
#include "core/philox.h"
#include "core/sin.h"
#include "cpu/keep_words.cpp"
#include "kernels/activation_list.h"

using namespace onepass;
using namespace onepass::ONEPASS_ISA;

namespace {

int failures = 0;

#define CHECK(condition, ...)                                               \
  do {                                                                      \
    if (!(condition) && failures++ < 50) {                                  \
      std::printf("%s:%d: not true: %s: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                             \
      std::printf("\n");                                                    \
    }                                                                       \
  } while (0)

// The only loop that calls the code under test: test_core.py demands that it is vectorised.
template <class F, class X, class Y>
__attribute__((noinline)) void apply(const X* x, Y* y, int64_t n) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; i++) y[i] = F::f(x[i]);
}

template <class F, class X>
auto map(const std::vector<X>& x) {
  std::vector<decltype(F::f(x[0]))> y(x.size());
  apply<F>(x.data(), y.data(), int64_t(x.size()));
  return y;
}

struct Random {
  uint64_t state = 88172645463325252u;
  uint64_t bits() {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
  }
  double uniform() { return double(bits() >> 11) * 0x1p-53; }
};

uint64_t hash = 14695981039346656037u;

// Which NaN comes of two is the compiler's choice.
template <class T>
T one_nan(T v) {
  return v;
}
float one_nan(float v) { return v != v ? math::quiet_nan<float>() : v; }
double one_nan(double v) { return v != v ? math::quiet_nan<double>() : v; }

template <class T>
void add_to_hash(std::vector<T> v) {
  for (T& e : v) e = one_nan(e);
  const unsigned char* p = reinterpret_cast<const unsigned char*>(v.data());
  for (size_t i = 0; i + 8 <= v.size() * sizeof(T); i += 8) {
    uint64_t word;
    std::memcpy(&word, p + i, 8);
    hash = (hash ^ word) * 1099511628211u;
    hash ^= hash >> 29;
  }
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// ---- math.h

#define FUNCTION(Name, call, reference)                                      \
  struct Name {                                                              \
    template <class T>                                                       \
    ONEPASS_HD static T f(T x) {                                             \
      return math::call(x);                                                  \
    }                                                                        \
    static double exact(float x) { return reference(double(x)); }            \
    static long double exact(double x) { return reference((long double)x); } \
  };

template <class T>
T exact_sigmoid(T x) {
  return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}

FUNCTION(Exp, exp, std::exp)
FUNCTION(Log, log, std::log)
FUNCTION(Log1p, log1p, std::log1p)
FUNCTION(MathTanh, tanh, std::tanh)
FUNCTION(Erf, erf, std::erf)
FUNCTION(MathSigmoid, sigmoid, exact_sigmoid)
FUNCTION(Sqrt, sqrt, std::sqrt)
FUNCTION(MathAbs, abs, std::fabs)

// double ends at kSinMax.
template <class T>
T exact_sin(T x) {
  return sizeof(T) > 8 && std::fabs(x) > math::kSinMax ? T(NAN) : std::sin(x);
}
template <class T>
T exact_cos(T x) {
  return sizeof(T) > 8 && std::fabs(x) > math::kSinMax ? T(NAN) : std::cos(x);
}

FUNCTION(MathSin, sin, exact_sin)
FUNCTION(MathCos, cos, exact_cos)

// Not defined beyond 0: |x| makes a test of every input.
struct ExpDown {
  template <class T>
  ONEPASS_HD static T f(T x) {
    return math::exp_down(-math::abs(x));
  }
  template <class T>
  static auto exact(T x) {
    return Exp::exact(-std::fabs(x));
  }
};

// As SELU takes it: not by a power of two.
struct ScaledExpm1 {
  template <class T>
  ONEPASS_HD static T f(T x) {
    return math::scaled_expm1(Selu<T>::kDepth, -math::abs(x));
  }
  static double exact(float x) { return Selu<float>::kDepth * std::expm1(-std::fabs(double(x))); }
  static long double exact(double x) {
    return Selu<double>::kDepth * std::expm1(-std::fabs((long double)x));
  }
};

struct LogisticSlope {
  template <class T>
  ONEPASS_HD static T f(T x) {
    const T t = math::at_most(math::abs(x), -math::Format<T>::kExpMin);
    return math::logistic_slope(math::rising(t));
  }
  template <class Wide>
  static Wide exact_at(Wide x) {
    const Wide e = std::exp(-std::fabs(x));
    return e / ((1 + e) * (1 + e));
  }
  static double exact(float x) { return exact_at(double(x)); }
  static long double exact(double x) { return exact_at((long double)x); }
};

struct ExpFlushed {
  template <class T>
  ONEPASS_HD static T f(T x) {
    return math::exp_flushed(-math::abs(x));
  }
};

// Arguments as the kernels give them.
struct Mills {
  template <class T>
  ONEPASS_HD static T f(T x) {
    return math::mills(math::min(math::abs(x), Gelu<T>::kFar));
  }
  template <class Wide>
  static Wide exact_at(Wide t, Wide far) {
    t = t > far ? far : t;
    return t != t ? t : std::erfc(t * std::sqrt(Wide(0.5))) * std::exp(t * t / 2) / 2;
  }
  static double exact(float x) { return exact_at(std::fabs(double(x)), 15.0); }
  // erfc underflows in long double only far beyond 40.
  static long double exact(double x) { return exact_at(std::fabs((long double)x), 40.0L); }
};

// The activations themselves, every option a quarter; tests/test_kernels.py holds their accuracy.
template <class A, class T, size_t... I>
ONEPASS_HD A with_options(std::index_sequence<I...>) {
  return A{(void(I), T(0.25))...};
}

template <template <class> class A>
struct Forward {
  template <class T>
  ONEPASS_HD static T f(T x) {
    return with_options<A<T>, T>(std::make_index_sequence<A<T>::hyper.size>{}).forward(x);
  }
};

template <template <class> class A>
struct Slope {
  template <class T>
  ONEPASS_HD static T f(T x) {
    return with_options<A<T>, T>(std::make_index_sequence<A<T>::hyper.size>{}).backward(T(1), x);
  }
};

// f(Forward<A>, Slope<A>, name) of each activation but the identity: the compiler makes a copy of
// that, not a loop.
template <template <class> class... A, class F>
void for_each_activation(List<A...>, F f) {
  auto unless_copied = [&](auto forward, auto slope, const char* name) {
    if constexpr (!std::is_same_v<decltype(forward), Forward<Identity>>) f(forward, slope, name);
  };
  (unless_copied(Forward<A>{}, Slope<A>{}, A<float>::name), ...);
}

struct Max {
  template <class T>
  ONEPASS_HD static T f(T x) {
    return math::max(x, T(0));
  }
};

struct Min {
  template <class T>
  ONEPASS_HD static T f(T x) {
    return math::min(T(1), x);
  }
};

// |got - want| in units of the last place of want, those of subnormals included.
template <class T, class Wide>
double ulps(T got, Wide want) {
  constexpr int digits = sizeof(T) == 4 ? FLT_MANT_DIG : DBL_MANT_DIG;
  constexpr int least = sizeof(T) == 4 ? -149 : -1074;
  if (want != want || got != got) return want != want && got != got ? 0 : INFINITY;
  if (std::isinf(got) || std::isinf(T(want))) return got == T(want) ? 0 : INFINITY;
  int exponent;
  std::frexp(want, &exponent);
  int unit = exponent - digits > least ? exponent - digits : least;
  return double(std::ldexp(std::fabs(Wide(got) - want), -unit));
}

// Bit patterns spread over every exponent, and the ranges where functions do something.
std::vector<float> float_inputs() {
  std::vector<float> x;
  for (uint64_t b = 0; b < uint64_t(1) << 32; b += 6121) x.push_back(math::from_bits(uint32_t(b)));
  Random random;
  for (int i = 0; i < 150000; i++) {
    x.push_back(float(random.uniform() * 210 - 110));
    x.push_back(float(random.uniform() * 24 - 12));
    x.push_back(float(random.uniform() * 4 - 2));
  }
  return x;
}

std::vector<double> double_inputs() {
  std::vector<double> x;
  Random random;
  for (int i = 0; i < 200000; i++) {
    x.push_back(math::from_bits(random.bits()));
    x.push_back(random.uniform() * 1480 - 760);
    x.push_back(random.uniform() * 80 - 40);
    x.push_back(random.uniform() * 16 - 8);
    x.push_back(random.uniform() * 4 - 2);
    const int exponent = 47 - int(random.bits() % 87);
    x.push_back(std::ldexp(random.uniform() * 2 - 1, exponent));
    // Beside a multiple of π/2, where sine or cosine cancel.
    const int shift = 19 + int(random.bits() % 44);
    x.push_back(double((long double)(random.bits() >> shift) * 1.57079632679489661923L));
  }
  return x;
}

template <class F, class T>
void check_accuracy(const char* name, const std::vector<T>& x, double limit) {
  std::vector<T> y = map<F>(x);
  double worst = 0, at = 0;
  for (size_t i = 0; i < x.size(); i++) {
    double u = ulps(y[i], F::exact(x[i]));
    if (u > worst) worst = u, at = double(x[i]);
  }
  std::printf("%s<%s>: %.3f ulp at %a\n", name, sizeof(T) == 4 ? "float" : "double", worst, at);
  CHECK(worst <= limit, "%s: %g ulp at %a", name, worst, at);
}

void check_accuracies(const std::vector<float>& x, const std::vector<double>& d) {
#define BOTH(F, single, twice) check_accuracy<F>(#F, x, single), check_accuracy<F>(#F, d, twice)
  BOTH(Exp, 0.95, 0.90);
  BOTH(ScaledExpm1, 1.9, 2.0);
  BOTH(LogisticSlope, 2.0, 2.1);
  BOTH(Log, 0.94, 0.90);
  BOTH(Log1p, 1.69, 1.50);
  BOTH(MathTanh, 1.87, 2.1);
  BOTH(Erf, 1.20, 1.40);
  BOTH(MathSigmoid, 2.0, 2.1);
  BOTH(ExpDown, 0.95, 0.90);
  BOTH(Mills, 2.9, 6.8);
  BOTH(Sqrt, 0.5, 0.5005);  // long double measures with 11 bits more
  BOTH(MathAbs, 0, 0);
  BOTH(MathSin, 0.51, 0.79);
  BOTH(MathCos, 0.51, 0.79);
}

template <class F, class T>
void check_value(const char* name, T x, T want) {
  std::vector<T> lanes(37, x);
  for (T got : map<F>(lanes)) {
    bool same = want != want ? got != got : math::to_bits(got) == math::to_bits(want);
    CHECK(same, "%s(%a) = %a, not %a", name, double(x), double(got), double(want));
  }
}

template <class T>
void check_specials() {
  const T inf = math::infinity<T>(), nan = math::quiet_nan<T>(), max = math::Format<T>::kMax;
  const T tiny = math::from_bits(typename math::Format<T>::Bits(1)), zero = 0, one = 1;
#define IS(F, x, want) check_value<F, T>(#F, x, want)
  IS(Exp, inf, inf), IS(Exp, -inf, 0), IS(Exp, max, inf), IS(Exp, -max, 0), IS(Exp, nan, nan);
  IS(Exp, zero, one), IS(Exp, -zero, one), IS(Exp, tiny, one);
  IS(ScaledExpm1, inf, -Selu<T>::kDepth), IS(ScaledExpm1, max, -Selu<T>::kDepth);
  IS(ScaledExpm1, zero, zero), IS(ScaledExpm1, 8 * tiny, -14 * tiny), IS(ScaledExpm1, nan, nan);
  IS(LogisticSlope, inf, zero), IS(LogisticSlope, zero, T(0.25)), IS(LogisticSlope, nan, nan);
  IS(Log, inf, inf), IS(Log, zero, -inf), IS(Log, -zero, -inf), IS(Log, one, zero);
  IS(Log, -one, nan), IS(Log, -tiny, nan), IS(Log, -inf, nan), IS(Log, nan, nan);
  IS(Log1p, inf, inf), IS(Log1p, -one, -inf), IS(Log1p, zero, zero), IS(Log1p, -zero, -zero);
  IS(Log1p, tiny, tiny), IS(Log1p, -tiny, -tiny), IS(Log1p, T(-1.5), nan), IS(Log1p, -inf, nan);
  IS(Log1p, nan, nan);
  IS(MathTanh, inf, one), IS(MathTanh, -inf, -one), IS(MathTanh, max, one),
      IS(MathTanh, zero, zero);
  IS(MathTanh, -zero, -zero), IS(MathTanh, tiny, tiny), IS(MathTanh, -tiny, -tiny),
      IS(MathTanh, nan, nan);
  IS(Erf, inf, one), IS(Erf, -inf, -one), IS(Erf, max, one), IS(Erf, zero, zero);
  IS(Erf, -zero, -zero), IS(Erf, tiny, tiny), IS(Erf, -tiny, -tiny), IS(Erf, nan, nan);
  IS(MathSigmoid, inf, one), IS(MathSigmoid, -inf, zero), IS(MathSigmoid, max, one),
      IS(MathSigmoid, -max, zero);
  IS(MathSigmoid, zero, T(0.5)), IS(MathSigmoid, nan, nan);
  IS(Sqrt, inf, inf), IS(Sqrt, -zero, -zero), IS(Sqrt, -one, nan), IS(Sqrt, nan, nan);
  IS(MathAbs, -inf, inf), IS(MathAbs, -zero, zero), IS(MathAbs, nan, nan);
  IS(MathSin, inf, nan), IS(MathSin, -inf, nan), IS(MathSin, nan, nan), IS(MathSin, zero, zero);
  IS(MathSin, -zero, -zero), IS(MathSin, tiny, tiny), IS(MathSin, -tiny, -tiny);
  IS(MathCos, inf, nan), IS(MathCos, nan, nan), IS(MathCos, -zero, one), IS(MathCos, tiny, one);
  IS(Max, nan, nan), IS(Max, inf, inf), IS(Max, -one, zero), IS(Max, one, one);
  IS(Min, nan, nan), IS(Min, -inf, -inf), IS(Min, inf, one);
  CHECK(math::isnan(math::max(one, nan)) && math::isnan(math::min(one, nan)), "second argument");
  CHECK(math::isfinite(max) && math::isfinite(-tiny), "finite");
  CHECK(!math::isfinite(inf) && !math::isfinite(-inf) && !math::isfinite(nan), "not finite");
  CHECK(math::copysign(one, -zero) == -1 && math::copysign(-one, zero) == 1, "copysign");
}

// The bits of ExpDown, or 0 where those are subnormal.
template <class T>
void check_exp_flushed(const std::vector<T>& x) {
  const std::vector<T> got = map<ExpFlushed>(x), want = map<ExpDown>(x);
  for (size_t i = 0; i < x.size(); i++) {
    const bool flushed = got[i] == 0 && want[i] < math::Format<T>::kMinNormal;
    const bool same = math::to_bits(one_nan(got[i])) == math::to_bits(one_nan(want[i]));
    CHECK(same || flushed, "exp_flushed(-|%a|) = %a", double(x[i]), double(got[i]));
  }
}

// What a CPU runs over blocks without large x has the bits of the whole formula.
void check_usual(const std::vector<float>& x) {
  const Sin<float> sin{};
  int64_t usual = 0;
  for (const float v : x) {
    if (!sin.is_usual(v)) continue;
    ++usual;
    const float y = sin.usual_forward(v), dx = sin.usual_backward(1.5f, v);
    CHECK(math::to_bits(y) == math::to_bits(sin.forward(v)), "sin(%a)", double(v));
    CHECK(math::to_bits(dx) == math::to_bits(sin.backward(1.5f, v)), "cos(%a)", double(v));
  }
  CHECK(usual > int64_t(x.size() / 2) && !sin.is_usual(INFINITY) && !sin.is_usual(NAN), "usual");
}

template <class T>
void hash_functions(const std::vector<T>& x) {
  add_to_hash(map<Exp>(x)), add_to_hash(map<ScaledExpm1>(x)), add_to_hash(map<Log>(x));
  add_to_hash(map<Log1p>(x)), add_to_hash(map<MathTanh>(x)), add_to_hash(map<Erf>(x));
  add_to_hash(map<MathSigmoid>(x)), add_to_hash(map<Sqrt>(x)), add_to_hash(map<MathAbs>(x));
  add_to_hash(map<Max>(x)), add_to_hash(map<Min>(x)), add_to_hash(map<MathSin>(x));
  add_to_hash(map<MathCos>(x));
  add_to_hash(map<ExpDown>(x)), add_to_hash(map<ExpFlushed>(x)), add_to_hash(map<Mills>(x));
  for_each_activation(Activations{}, [&](auto forward, auto slope, const char*) {
    add_to_hash(map<decltype(forward)>(x)), add_to_hash(map<decltype(slope)>(x));
  });
}

// Once rounded where the processor can, by way of double elsewhere: which is never wrong by more
// than one bit, and only beside a tie.
void check_muladd() {
  Random random;
  const float special[] = {0.0f, -0.0f, 1.0f, FLT_MIN, -FLT_MIN / 8, FLT_MAX, INFINITY, NAN};
  auto pick = [&] {
    const uint32_t bits = uint32_t(random.bits() >> 32);
    if (bits % 16 == 0) return special[bits / 16 % 8];
    // Half of them near 1, so that sums cancel.
    return math::from_bits(bits % 2 ? bits : (bits & 0x81ffffffu) + 0x3e000000u);
  };
  for (int i = 0; i < 2000000; i++) {
    const float a = pick(), b = pick();
    const float c = i % 8 ? pick() : -a * b * (1.0f + float(i % 64 / 8) * 0x1p-23f);
    const float got = math::muladd(a, b, c), once = std::fma(a, b, c);
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    const bool right = math::to_bits(got) == math::to_bits(once);
#else
    const bool right = ulps(got, double(once)) <= 1;
#endif
    CHECK(right || (got != got && once != once), "%a * %a + %a = %a, not %a", double(a), double(b),
          double(c), double(got), double(once));
  }
}

template <class F>
void hash_every_float(const std::string& name, const char* part) {
  if (name.find(part) == std::string::npos) return;
  hash = 14695981039346656037u;
  std::vector<float> x(1 << 20);
  for (uint64_t b = 0; b < uint64_t(1) << 32; b += x.size()) {
    for (size_t i = 0; i < x.size(); i++) x[i] = math::from_bits(uint32_t(b + i));
    add_to_hash(map<F>(x));
  }
  std::printf("%s %016llx\n", name.c_str(), (unsigned long long)hash), std::fflush(stdout);
}

void hash_every_float(const char* part) {
#define EVERY(Name) hash_every_float<Name>(#Name, part)
  EVERY(Exp), EVERY(ScaledExpm1), EVERY(Log), EVERY(Log1p), EVERY(MathTanh), EVERY(Erf);
  EVERY(MathSigmoid), EVERY(ExpDown), EVERY(ExpFlushed), EVERY(Mills);
  EVERY(MathSin), EVERY(MathCos);
  for_each_activation(Activations{}, [&](auto forward, auto slope, const char* name) {
    hash_every_float<decltype(forward)>(std::string(name) + " forward", part);
    hash_every_float<decltype(slope)>(std::string(name) + " slope", part);
  });
}

// ---- dtype.h

struct ToFloat {
  template <class S>
  ONEPASS_HD static float f(S x) {
    return to_float(x);
  }
};

struct ToDouble {
  template <class S>
  ONEPASS_HD static double f(S x) {
    return to_double(x);
  }
};

template <class S>
struct To {
  ONEPASS_HD static S f(float x) { return from_float<S>(x); }
  ONEPASS_HD static S f(double x) { return from_double<S>(x); }
};

template <class S>
struct Layout;
template <>
struct Layout<Half> {
  static constexpr int mantissa = 10, bias = 15, inf = 0x7c00;
};
template <>
struct Layout<BFloat16> {
  static constexpr int mantissa = 7, bias = 127, inf = 0x7f80;
};

// The value of the bits, by the definition of the format; Inf counts as the next power of two.
template <class S>
double magnitude(int bits) {
  using L = Layout<S>;
  int exponent = bits >> L::mantissa, fraction = bits & ((1 << L::mantissa) - 1);
  int lead = exponent ? 1 << L::mantissa : 0;
  return std::ldexp(lead + fraction, (exponent ? exponent : 1) - L::bias - L::mantissa);
}

// Nearest, ties to even, by bisection over all magnitudes.
template <class S>
int nearest(const std::vector<double>& values, double x) {
  int low = 0, high = Layout<S>::inf;
  if (x >= values[size_t(high)]) return high;
  while (high - low > 1) {
    int middle = (low + high) / 2;
    (values[size_t(middle)] <= x ? low : high) = middle;
  }
  double half = (values[size_t(low)] + values[size_t(high)]) / 2;
  return x < half || (x == half && low % 2 == 0) ? low : high;
}

template <class S>
void check_widening() {
  using L = Layout<S>;
  std::vector<S> all(65536 + 1);  // odd, for a tail
  for (size_t i = 0; i < all.size(); i++) all[i].bits = uint16_t(i);
  std::vector<float> single = map<ToFloat>(all);
  std::vector<double> twice = map<ToDouble>(all);
  for (int i = 0; i < 65536; i++) {
    int a = i & 0x7fff;
    double value = a > L::inf ? NAN : a == L::inf ? INFINITY : magnitude<S>(a);
    value = i >= 0x8000 ? -value : value;
    uint32_t quiet = math::to_bits(single[size_t(i)]) >> 22 & 1;
    if (a > L::inf) {
      CHECK(std::isnan(single[size_t(i)]) && quiet, "NaN %04x", i);
      CHECK(std::isnan(twice[size_t(i)]), "NaN %04x", i);
    } else {
      CHECK(math::to_bits(twice[size_t(i)]) == math::to_bits(value), "%04x", i);
      CHECK(math::to_bits(single[size_t(i)]) == math::to_bits(float(value)), "%04x", i);
    }
  }
  add_to_hash(single), add_to_hash(twice);
  std::vector<float> single_flushed;
  std::vector<double> twice_flushed;
  {
    FlushDenormals flush;
    single_flushed = map<ToFloat>(all), twice_flushed = map<ToDouble>(all);
  }
  CHECK(same_bits(single, single_flushed), "flushing changed a conversion to float");
  CHECK(same_bits(twice, twice_flushed), "flushing changed a conversion to double");
}

template <class S, class T>
void check_narrowing(std::vector<T> x) {
  using L = Layout<S>;
  std::vector<double> values;
  for (int i = 0; i <= L::inf; i++) values.push_back(magnitude<S>(i));
  for (int i = 0; i < L::inf; i++) {
    T value = T(values[size_t(i)]), tie = T((values[size_t(i)] + values[size_t(i) + 1]) / 2);
    for (T v : {value, tie, std::nextafter(tie, T(0)), std::nextafter(tie, T(INFINITY))})
      x.push_back(v), x.push_back(-v);
  }
  x.insert(x.end(), {INFINITY, -INFINITY, NAN, -NAN});
  std::vector<S> y = map<To<S>>(x);
  for (size_t i = 0; i < x.size(); i++) {
    int sign = std::signbit(x[i]) ? 0x8000 : 0, bits = y[i].bits;
    if (std::isnan(x[i])) {
      CHECK((bits & 0x7fff) > L::inf && (bits >> (L::mantissa - 1) & 1), "NaN gave %04x", bits);
    } else {
      int want = nearest<S>(values, std::fabs(double(x[i]))) | sign;
      CHECK(bits == want, "%a gave %04x, not %04x", double(x[i]), bits, want);
    }
  }
  add_to_hash(y);
  std::vector<S> flushed;
  {
    FlushDenormals flush;
    flushed = map<To<S>>(x);
  }
  CHECK(same_bits(y, flushed), "flushing changed a conversion to 16 bits");
}

// float <-> double against the processor's own conversion.
void check_float_and_double(const std::vector<float>& x, std::vector<double> d) {
  for (float v : x) {
    if (std::fabs(v) > FLT_MAX || v != v) continue;
    double next = double(std::nextafter(v, INFINITY)), tie = (double(v) + next) / 2;
    d.push_back(tie), d.push_back(std::nextafter(tie, 0)), d.push_back(std::nextafter(tie, 1e300));
  }
  std::vector<double> widened = map<ToDouble>(x);
  std::vector<float> narrowed = map<To<float>>(d);
  for (size_t i = 0; i < x.size(); i++)
    CHECK(x[i] != x[i] ? std::isnan(widened[i])
                       : math::to_bits(widened[i]) == math::to_bits(double(x[i])),
          "%a", double(x[i]));
  for (size_t i = 0; i < d.size(); i++)
    CHECK(d[i] != d[i] ? std::isnan(narrowed[i])
                       : math::to_bits(narrowed[i]) == math::to_bits(float(d[i])),
          "%a gave %a", d[i], double(narrowed[i]));
  FlushDenormals flush;
  CHECK(same_bits(widened, map<ToDouble>(x)), "flushing changed float to double");
  CHECK(same_bits(narrowed, map<To<float>>(d)), "flushing changed double to float");
}

void check_flushing() {
#ifdef __SSE2__
  volatile float least = FLT_MIN, subnormal = FLT_MIN / 4;
  auto flushes_results = [&] { return math::to_bits(least / 2) == 0; };
  auto reads_zero = [&] { return math::to_bits(subnormal * 0x1p24f) == 0; };
  const unsigned before = _mm_getcsr();
  {
    FlushDenormals outer;
    CHECK(flushes_results() && reads_zero(), "no effect");
    {
      FlushDenormals inner;
    }
    CHECK(flushes_results() && reads_zero(), "the inner one ended the outer one's work");
  }
  CHECK(_mm_getcsr() == before && !flushes_results() && !reads_zero(), "not restored");
#endif
}

// ---- philox.h

void check_philox() {  // the known answers that come with Random123
  struct {
    Philox4 counter;
    uint32_t k0, k1;
    Philox4 want;
  } const known[] = {
      {{0, 0, 0, 0}, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       0xffffffff,
       0xffffffff,
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       0xa4093822,
       0x299f31d0,
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const auto& k : known) {
    Philox4 c = philox4x32(k.counter, k.k0, k.k1);
    CHECK(c.x == k.want.x && c.y == k.want.y && c.z == k.want.z && c.w == k.want.w, "%08x", c.x);
  }
}

// u(e) >= threshold, word for word as the definition reads.
bool kept(uint64_t e, DropoutStream s) {
  uint64_t u = 0, g = e / 128;
  for (uint32_t k = 0; k < 32; k++) {
    Philox4 c = philox4x32({uint32_t(g), uint32_t(g >> 32 & 0xffffff) | k << 24, uint32_t(s.offset),
                            uint32_t(s.offset >> 32)},
                           uint32_t(s.seed), uint32_t(s.seed >> 32));
    const uint32_t words[4] = {c.x, c.y, c.z, c.w};
    u = u << 1 | (words[e / 32 % 4] >> e % 32 & 1);
  }
  return u >= s.threshold;
}

void check_keep_words() {
  const uint64_t thresholds[] = {0,          1,          uint64_t(1) << 31, 3u << 30,
                                 0x19999999, 0x0000ffff, 0xffffffff,        uint64_t(1) << 32};
  const int64_t starts[] = {
      0, 1, 2, 3, 31, 126, 4 * ((int64_t(1) << 32) - 5) + 1, (int64_t(1) << 58) - 700};
  for (uint64_t threshold : thresholds) {
    for (int64_t start : starts) {
      DropoutStream s{0x123456789abcdef0u, 0xfedcba9876543210u + uint64_t(start), threshold};
      constexpr int64_t n = 517;
      std::vector<uint32_t> want, got(n), parts(n);
      for (int64_t i = 0; i < n; i++) want.push_back(keep_word(s, start + i));
      for (int64_t i = 0; i < n; i += 86)
        for (int bit = 0; bit < 32; bit++)
          CHECK(kept(uint64_t(start + i) * 32 + uint64_t(bit), s) == (want[size_t(i)] >> bit & 1),
                "word %lld bit %d", (long long)(start + i), bit);
      keep_words(got.data(), start, n, s);
      CHECK(got == want, "threshold %llx, start %lld", (long long)threshold, (long long)start);
      for (int64_t i = 0, step = 1; i < n; i += step, step = step * 3 % 101)
        keep_words(parts.data() + i, start + i, step < n - i ? step : n - i, s);
      CHECK(parts == want, "in parts: threshold %llx", (long long)threshold);
      add_to_hash(want);
    }
  }
  for (int64_t first :
       {int64_t(1), int64_t(31), int64_t(32), int64_t(97), int64_t(128), (int64_t(1) << 61) + 77})
    for (int64_t start : {0, 3, 64})
      for (int64_t n : {1, 5, 130}) {
        const DropoutStream s{5, 6, 0x55555555, first};
        std::vector<uint32_t> words(size_t(n), 0);
        keep_words(words.data(), start, n, s);
        for (int64_t e = 0; e < 32 * n; e++)
          CHECK(kept(uint64_t(first + 32 * start + e), s) == (words[size_t(e / 32)] >> e % 32 & 1),
                "first %lld, element %lld", (long long)first, (long long)e);
      }
  uint32_t untouched = 7;
  keep_words(&untouched, 3, 0, {1, 2, 3});
  keep_words(&untouched, 3, 0, {1, 2, 3, 4});
  CHECK(untouched == 7, "count 0 wrote");
}

// The number kept is binomial, words at any distance are independent, streams differ.
void check_keep_rate() {
  constexpr int64_t n = 1 << 17;  // words
  std::vector<uint32_t> keep(n), other(n);
  for (double p : {0.001, 0.1, 0.25, 0.5, 0.9}) {
    DropoutStream s{42, 7, dropout_threshold(p)};
    keep_words(keep.data(), 0, n, s);
    auto count_equal = [&](int64_t distance, const std::vector<uint32_t>& b) {
      double equal = 0;
      for (int64_t i = distance; i < n; i++)
        equal += __builtin_popcount(~(keep[size_t(i - distance)] ^ b[size_t(i)]));
      return equal / (32.0 * double(n - distance));
    };
    auto check_share = [&](double share, double expected, const char* what, long long lag) {
      double sigma = std::sqrt(expected * (1 - expected) / (32.0 * n));
      CHECK(std::fabs(share - expected) < 4.5 * sigma, "p = %g: %s %lld: %g", p, what, lag,
            (share - expected) / sigma);
    };
    double share = 0;
    for (uint32_t w : keep) share += __builtin_popcount(w) / (32.0 * n);
    check_share(share, 1 - p, "kept", 0);
    const double agree = p * p + (1 - p) * (1 - p);
    for (int64_t lag : {1, 2, 3, 4, 8, 64, 128, 4096})
      check_share(count_equal(lag, keep), agree, "lag", lag);
    for (int bit = 0; bit < 32; bit++) {
      double ones = 0;
      for (uint32_t w : keep) ones += w >> bit & 1;
      CHECK(std::fabs(ones / n - (1 - p)) < 4.5 * std::sqrt(p * (1 - p) / n), "bit %d", bit);
    }
    s.offset++;
    keep_words(other.data(), 0, n, s);
    check_share(count_equal(0, other), agree, "next offset", 0);
    s.offset--, s.seed++;
    keep_words(other.data(), 0, n, s);
    check_share(count_equal(0, other), agree, "next seed", 0);
  }
}

void check_threshold_and_scale() {
  const uint64_t full = uint64_t(1) << 32;
  CHECK(dropout_threshold(0) == 0 && dropout_threshold(1) == full, "ends");
  CHECK(dropout_threshold(0.5) == full / 2 && dropout_threshold(0.1) == 0x1999999a, "middle");
  CHECK(dropout_threshold(0x1p-33) == 1 && dropout_threshold(0x1.8p-32) == 2, "ties go up");
  CHECK(dropout_threshold(0x1.fffffffffffffp-34) == 0, "below a tie");
  CHECK(dropout_threshold(1 - 0x1p-53) == full, "just below one");
  CHECK(dropout_scale<float>(full) == 0 && dropout_scale<double>(full) == 0, "nothing kept");
  CHECK(dropout_scale<float>(0) == 1 && dropout_scale<double>(0) == 1, "all kept");
  CHECK(dropout_scale<float>(full - 1) == 0x1p32f && dropout_scale<float>(full / 2) == 2, "2^n");
  Random random;
  for (int i = 0; i < 200000; i++) {
    uint64_t t = i % 2 ? random.bits() >> 32 : full - 1 - (random.bits() >> (32 + i % 32));
    // long double holds 2^32 / integer to 64 bits: rounding it again can only err at an exact tie.
    long double exact = 0x1p32L / (long double)(full - t);
    CHECK(ulps(dropout_scale<float>(t), exact) <= 0.5, "%llx", (long long)t);
    CHECK(ulps(dropout_scale<double>(t), exact) <= 0.5005, "%llx", (long long)t);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "every") == 0)
    return hash_every_float(argc > 2 ? argv[2] : ""), 0;
  const std::vector<float> x = float_inputs();
  const std::vector<double> d = double_inputs();
  if (argc > 1 && std::strcmp(argv[1], "accuracy") == 0) check_accuracies(x, d);
  check_specials<float>(), check_specials<double>();
  check_exp_flushed(x), check_exp_flushed(d);
  check_usual(x);
  check_muladd();
  hash_functions(x), hash_functions(d);
  check_widening<Half>(), check_widening<BFloat16>();
  check_narrowing<Half>(x), check_narrowing<Half>(d);
  check_narrowing<BFloat16>(x), check_narrowing<BFloat16>(d);
  check_float_and_double(x, d);
  check_flushing();
  check_philox();
  check_keep_words();
  check_keep_rate();
  check_threshold_and_scale();
  std::printf("hash %016llx\n", (long long)hash);
  return failures != 0;
}
