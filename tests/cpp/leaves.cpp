// The loop of every optimizer over a block, alone and with the riders of a step, for
// tests/test_core.py to see whether it was vectorised.
#include "cpu/loops.h"
#include "kernels/update_list.h"

ONEPASS_BEGIN
namespace {

template <class K, class T, size_t... J>
void leaves(const double* hyper, int64_t n, T* const* at, std::index_sequence<J...>) {
  using S = Signature<K>;
  const K k = make_functor<K, T>(hyper);
  const PrepareGradient<T> prepare(hyper[0], hyper[1], {hyper[2], 1});
  leaf<K, T>(k, n, argument<S, J>(at)...);
  leaf<Ridden<K, T, false>, T>({k, prepare}, n, argument<S, J>(at)...);
  leaf<Ridden<K, T, true>, T>({k, prepare}, n, argument<S, J>(at)...);
}

}  // namespace

void all_leaves(const double* hyper, int64_t n, float* const* at) {
  for_each_variant(Updates{}, [&](auto, auto variant) {
    using K = typename decltype(variant)::template Kernel<float>;
    leaves<K, float>(hyper, n, at, std::make_index_sequence<Signature<K>::named>{});
  });
}

ONEPASS_END
