// The driver of norms for each tensor: runs a Measure functor (core/rule.h) over a list of tensors
// in one pass over memory and leaves the 2-norms of its terms in Elementwise::norms. The functor
// may write operands, as an update does. The terms stay in the first-level cache, where their
// squares are added block by block in the order of core/squares.h.
#pragma once
#include "core/sizes.h"
#include "core/squares.h"
#include "cpu/columns.h"
#include "cpu/loops.h"

ONEPASS_BEGIN
namespace {
namespace tensor_norms {

template <class K, class T, size_t... N, class... P>
[[gnu::noinline]] void leaf(const K k, int64_t n, T* terms, std::index_sequence<N...>, P... p) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const auto found = k(p[i]...);
    ((terms[int64_t(N) * kBlockElements + i] = found.at[N]), ...);
  }
}
template <class K, class T, size_t... J>
ONEPASS_HD void run_leaf(const K& k, const GradientRider& rider, int64_t n, T* terms, T* const* at,
                         std::index_sequence<J...>) {
  using S = Signature<K>;
  constexpr auto kTerms = std::make_index_sequence<S::terms>{};
  if (rider.active()) {
    const PrepareGradient<T> prepare(rider.unscale, rider.max_value,
                                     {rider.coefficient, rider.rest});
    leaf<Ridden<K, T, false>, T>({k, prepare}, n, terms, kTerms, argument<S, J>(at)...);
  } else {
    leaf<K, T>(k, n, terms, kTerms, argument<S, J>(at)...);
  }
}

// How columns take a value.
template <int kMeasure>
struct Squares {
  template <class T>
  ONEPASS_HD double operator()(double sum, T v) const {
    return with_square<kMeasure>(sum, v);
  }
};
ONEPASS_HD int64_t blocks_of(const Tensor& tensor) { return ceil_div(tensor.size, kBlockElements); }
// The sums of a tensor: norms × measures rows, a sum for each block.
ONEPASS_HD int64_t sums_of(const Tensor& tensor, int64_t norms) {
  const bool wide = tensor.computing == DType::f64;
  return blocks_of(tensor) * norms * (wide ? kMeasures<double> : kMeasures<float>);
}

template <class T, int kMeasure = 0>
void add_block(const T* terms, int64_t n, double* sum, int64_t stride) {
  constexpr Squares<kMeasure> kAdd{};
  *sum = n == kBlockElements ? add_up_block(kAdd, terms) : add_up(kAdd, terms, n);
  if constexpr (kMeasure + 1 < kMeasures<T>)
    add_block<T, kMeasure + 1>(terms, n, sum + stride, stride);
}

template <class K, class T, int kGradient>
void run_piece(const K k, const Elementwise& call, const Piece piece, double* sums) {
  using S = Signature<K>;
  const Tensor& tensor = call.tensors[piece.tensor];
  const int64_t blocks = blocks_of(tensor);
  alignas(64) T scratch[S::arity][kBlockElements];
  alignas(64) T terms[S::terms][kBlockElements];
  for (int64_t done = 0; done < piece.size; done += kBlockElements) {
    const int64_t begin = piece.begin + done, n = smaller(piece.size - done, kBlockElements);
    T* at[S::arity];
    for (size_t o = 0; o < S::arity; ++o) {
      const Operand& operand = tensor.operands[o];
      at[o] = is_direct<T>(operand) ? static_cast<T*>(operand.data) + begin : scratch[o];
      if (at[o] == scratch[o] && S::reads(o)) load_block(tensor, operand, begin, n, at[o]);
    }
    run_leaf<K, T>(k, call.rider, n, terms[0], at, std::make_index_sequence<S::named>{});
    for (size_t o = 0; o < S::arity; ++o)
      if (at[o] == scratch[o] && S::writes(o))
        store_block(tensor, tensor.operands[o], begin, n, at[o]);
    for (size_t s = 0; s < S::terms; ++s)
      add_block(terms[s], n, sums + int64_t(s) * kMeasures<T> * blocks + begin / kBlockElements,
                blocks);
  }
}

template <template <class> class M, int kGradient>
struct Job {
  const Elementwise& call;
  Functors<M<float>, float> single;
  Functors<M<double>, double> twice;
  const int64_t* first;  // of each tensor's sums
  double* sums;

  static void group(void* context, int64_t g) {
    const Job& job = *static_cast<const Job*>(context);
    const Schedule& schedule = job.call.schedule;
    const FlushDenormals flush;
    for (int64_t i = schedule.groups[g]; i < schedule.groups[g + 1]; ++i) {
      const Piece& p = schedule.pieces[i];
      const Tensor& tensor = job.call.tensors[p.tensor];
      double* own = job.sums + job.first[p.tensor];
      if (tensor.computing == DType::f64) {
        run_piece<M<double>, double, kGradient>(job.twice.of(tensor), job.call, p, own);
      } else {
        run_piece<M<float>, float, kGradient>(job.single.of(tensor), job.call, p, own);
      }
    }
  }
};

template <class T>
void finish(const Tensor& tensor, const double* sums, int64_t norms, double* to) {
  const int64_t blocks = blocks_of(tensor);
  for (int64_t s = 0; s < norms; ++s) {
    double measures[kMeasures<T>];
    for (int m = 0; m < kMeasures<T>; ++m, sums += blocks)
      measures[m] = add_up(Values{}, sums, blocks);
    to[s] = norm_of<T>(measures);
  }
}

template <template <class> class M, int kGradient>
void measure(const Elementwise& call) {
  using TheJob = Job<M, kGradient>;
  constexpr auto kTerms = int64_t(Signature<M<float>>::terms);
  auto* first = static_cast<int64_t*>(call.workspace);
  auto* sums = reinterpret_cast<double*>(first + call.count);
  int64_t end = 0;
  for (int64_t t = 0; t < call.count; ++t) {
    first[t] = end;
    end += sums_of(call.tensors[t], kTerms);
  }
  TheJob job{call, Functors<M<float>, float>(call), Functors<M<double>, double>(call), first, sums};
  const int64_t groups = call.schedule.group_count;
  if (call.schedule.elements <= kSerialElements) {
    for (int64_t g = 0; g < groups; ++g) TheJob::group(&job, g);
  } else {
    parallel_for(groups, &TheJob::group, &job);
  }
  for (int64_t t = 0; t < call.count; ++t) {
    const Tensor& tensor = call.tensors[t];
    double* to = call.norms + tensor.parameter * kTerms;
    if (tensor.computing == DType::f64) {
      finish<double>(tensor, sums + first[t], kTerms, to);
    } else {
      finish<float>(tensor, sums + first[t], kTerms, to);
    }
  }
}

[[maybe_unused]] int64_t workspace(const Elementwise& call) {
  int64_t bytes = call.count * int64_t(sizeof(int64_t));
  for (int64_t t = 0; t < call.count; ++t)
    bytes += sums_of(call.tensors[t], call.norm_count) * int64_t(sizeof(double));
  return bytes;
}

}  // namespace tensor_norms
}  // namespace
ONEPASS_END
