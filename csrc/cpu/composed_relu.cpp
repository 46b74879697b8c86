// ReLU composed with every norm over channels and the bias.
#include "cpu/gradient_sums.h"
#include "kernels/relu.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

template <class R, class A, class T, class M, class P>
struct Composed {
  using Words = const uint32_t*;
  using Forward = EpilogueForward<R, A, T>;
  using Backward = EpilogueBackward<R, A, T>;

  static void forward(Dropout<T> dropout, int64_t n, Words words, const T* residual, T* y,
                      const T* x, M mean, M scale, P shift) {
    compose(Forward{{}, dropout}, n, words, residual, y, x, mean, scale, shift);
  }
  static void backward(Dropout<T> dropout, int64_t n, Words words, const T* residual, T* g,
                       const T* dy, const T* x, M mean, M scale, P shift) {
    compose(Backward{{}, dropout}, n, words, residual, g, dy, x, mean, scale, shift);
  }
  static void input_gradient(Dropout<T> dropout, int64_t n, Words words, const T* residual, T* dx,
                             const T* dy, const T* x, P mean, P scale, P shift, P level, P slope) {
    const EpilogueInputGradient<R, A, T> k{Backward{{}, dropout}};
    compose(k, n, words, residual, dx, dy, x, mean, scale, shift, level, slope);
  }
  static void add_columns(Dropout<T> dropout, int64_t rows, int64_t n, double* s, double* q,
                          const GradientRows<T, P>& at) {
    with_term(dropout, at, [=](auto term) { add_terms_of_columns(rows, n, s, q, term); });
  }
  static void add_plane(Dropout<T> dropout, int64_t n, double* s, double* q,
                        const GradientRows<T, P>& at) {
    with_term(dropout, at, [=](auto term) { add_terms_of_plane(n, s, q, term); });
  }

 private:
  template <class Add>
  ONEPASS_HD static void with_term(Dropout<T> dropout, const GradientRows<T, P>& at, Add add) {
    const Backward backward{{}, dropout};
    if (!at.words) {
      using G = ComposedGradient<R, A, T, P>;
      const G g{backward, at.dy, at.x, at.stride, at.mean, at.scale, at.shift};
      add(GradientPair<R, T, P, G>{g, at.x, at.stride, at.mean, at.rstd});
    } else if (!at.kept) {
      add(dropped_pair<R, false>(backward, at));
    } else if constexpr (!kMaskedLanes) {
      add(dropped_pair<R, true>(backward, at));
    }
  }
};

template <template <class> class A, class R, class T, class P>
constexpr typename ComposedWith<R, T>::template Runs<P> composed_runs() {
  if constexpr (R::kScales) {
    using C = Composed<R, A<T>, T, P, P>;
    return {&C::forward, &C::backward, &C::input_gradient, &C::add_columns, &C::add_plane};
  } else {
    using C = Composed<R, A<T>, T, Absent, P>;
    return {&C::forward, &C::backward, nullptr, nullptr, nullptr};
  }
}
template <template <class> class A, class R, class T>
constexpr ComposedWith<R, T> composed_with() {
  return {composed_runs<A, R, T, const T*>(), composed_runs<A, R, T, Uniform<T>>()};
}
template <template <class> class A, class T, template <class> class... R>
constexpr ComposedWithAll<T, List<R...>> composed_with_all(List<R...>) {
  return {composed_with<A, BiasRule<T>, T>(), composed_with<A, R<T>, T>()...};
}
constexpr ComposedTable kRelu{composed_with_all<Relu, float>(ElementNorms{}),
                              composed_with_all<Relu, double>(ElementNorms{})};

}  // namespace normalise
}  // namespace

const ComposedTable* composed_relu() { return &normalise::kRelu; }
ONEPASS_END
