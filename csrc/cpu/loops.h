// The elementwise driver: one call over a list of tensors of any dtype and layout, for every functor
// (activations, dropout, optimizer updates). Memory is passed once: a block of operands that are not
// dense arrays of the computing type is converted in the first-level cache, and the riders of an
// optimizer step (unscale, clip, zero) run over the same hot block.
//
// Leaf loops take everything by value and name every operand: through a local array or a reference
// they would not vectorise. No __restrict: an output may be exactly an input.
#pragma once
#include "core/philox.h"
#include "core/signature.h"
#include "cpu/blocks.h"
#include "cpu/parallel.h"
#include "kernels/gradient.h"

ONEPASS_BEGIN
namespace {

// Below this many elements waking a worker costs more than it saves.
constexpr int64_t kSerialElements = 12 * 1024;

template <class K, class T, class... P>
void leaf(const K k, int64_t n, P... p) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) k(p[i]...);
}
template <class K, class T, class... P>
void leaf_returning(const K k, int64_t n, T* out, P... p) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = k(p[i]...);
}
template <class K, class T, class... P>
void leaf_drawing(const K k, int64_t n, const uint32_t* words, T* out, P... p) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const uint32_t word = words[i / 32];
#pragma GCC ivdep
    for (int l = 0; l < 32; ++l) out[i + l] = k(p[i + l]..., Keep{((word >> l) & 1) != 0});
  }
  for (; i < n; ++i) out[i] = k(p[i]..., Keep{((words[i / 32] >> (i % 32)) & 1) != 0});
}

template <class K, class T, size_t... I>
ONEPASS_HD void run_leaf(const K& k, int64_t n, T* const* at, const uint32_t* words,
                         std::index_sequence<I...>) {
  if constexpr (Signature<K>::draws) {
    leaf_drawing<K, T>(k, n, words, at[I]...);
  } else if constexpr (Signature<K>::returns) {
    leaf_returning<K, T>(k, n, at[I]...);
  } else {
    leaf<K, T>(k, n, at[I]...);
  }
}

// Runs a functor over blocks of one piece of one tensor. kGradient is the operand that the rider
// prepares (-1: the functor is no optimizer update).
template <class K, class T, int kGradient>
void run_piece(const K k, const Elementwise& call, const Piece piece, bool stream) {
  using S = Signature<K>;
  const Tensor& tensor = call.tensors[piece.tensor];
  alignas(64) T scratch[S::arity][kBlockElements];
  uint32_t words[kGroupElements / 32];
  if constexpr (S::draws)
    keep_words(words, piece.begin / 32, (piece.size + 31) / 32, call.random);

  const bool rides = kGradient >= 0 && call.rider.active();
  bool direct[S::arity];
  bool all_direct = !rides && !stream && !(kGradient >= 0 && call.rider.zero_grad);
  for (size_t o = 0; o < S::arity; ++o) {
    direct[o] = is_direct<T>(tensor.operands[o]);
    all_direct = all_direct && direct[o];
  }
  const int64_t step = all_direct ? piece.size : kBlockElements;
  for (int64_t done = 0; done < piece.size; done += step) {
    const int64_t begin = piece.begin + done;
    const int64_t n = step < piece.size - done ? step : piece.size - done;
    T* at[S::arity];
    for (size_t o = 0; o < S::arity; ++o) {
      const bool in_place = direct[o] && !(o == 0 && stream) && !(int(o) == kGradient && rides);
      at[o] = in_place ? static_cast<T*>(tensor.operands[o].data) + begin : scratch[o];
      if (!in_place && S::reads(o)) load_block<T>(tensor, tensor.operands[o], begin, n, at[o]);
    }
    if constexpr (kGradient >= 0) {
      T* g = at[kGradient];
      const PrepareGradient<T> prepare{T(call.rider.unscale), T(call.rider.max_value),
                                       T(call.rider.coefficient)};
      if (rides) leaf_returning<PrepareGradient<T>, T>(prepare, n, g, g);
    }
    run_leaf<K, T>(k, n, at, words + done / 32, std::make_index_sequence<S::arity>{});
    for (size_t o = 0; o < S::arity; ++o) {
      if (!S::writes(o) || at[o] != scratch[o]) continue;
      if (stream) {
        stream_run<T>(static_cast<T*>(tensor.operands[o].data) + begin, scratch[o], n);
      } else {
        store_block<T>(tensor, tensor.operands[o], begin, n, scratch[o]);
      }
    }
    if constexpr (kGradient >= 0) {
      if (call.rider.zero_grad) {
        for (int64_t i = 0; i < n; ++i) scratch[0][i] = T(0);
        store_block<T>(tensor, tensor.operands[kGradient], begin, n, scratch[0]);
      }
    }
  }
  if (stream) stream_fence();
}

// The functors of a call, one per row of hyper-parameters, built once: an update's constructor
// takes powers. Calls with more rows than fit build theirs per piece.
template <class K, class T>
struct Functors {
  static constexpr int64_t kMost = 64;
  alignas(K) unsigned char storage[kMost * sizeof(K)];
  const Elementwise& call;

  explicit Functors(const Elementwise& c) : call(c) {
    for (int64_t r = 0; r < c.hyper_rows && r < kMost; ++r)
      *reinterpret_cast<K*>(storage + r * int64_t(sizeof(K))) = make(r);
  }
  ONEPASS_HD K make(int64_t row) const {
    if constexpr (Signature<K>::draws) {
      return K{dropout_scale<T>(call.random.threshold)};
    } else {
      return make_functor<K, T>(call.hyper + row * call.hyper_size);
    }
  }
  ONEPASS_HD K at(int64_t row) const {
    if (row >= kMost) return make(row);
    return *reinterpret_cast<const K*>(storage + row * int64_t(sizeof(K)));
  }
};

template <template <class> class K, int kGradient>
struct ElementwiseJob {
  const Elementwise& call;
  Functors<K<float>, float> single;
  Functors<K<double>, double> twice;

  template <class T, class F>
  ONEPASS_HD void piece(const F& functors, const Piece& p) const {
    const Tensor& tensor = call.tensors[p.tensor];
    bool stream = false;
    if constexpr (Signature<K<T>>::returns) {
      const Operand& out = tensor.operands[0];
      stream = tensor.size * int64_t(sizeof(T)) >= kStreamBytes && is_direct<T>(out);
      for (size_t o = 1; o < Signature<K<T>>::arity; ++o)
        stream = stream && tensor.operands[o].data != out.data;  // in place: already in cache
    }
    run_piece<K<T>, T, kGradient>(functors.at(tensor.hyper_set), call, p, stream);
  }
  static void group(void* context, int64_t g) {
    const ElementwiseJob& job = *static_cast<const ElementwiseJob*>(context);
    const Schedule& schedule = job.call.schedule;
    // Second moments of dead units decay into subnormals, which cost up to six times the time.
    const FlushDenormals flush(kGradient >= 0);
    for (int64_t i = schedule.groups[g]; i < schedule.groups[g + 1]; ++i) {
      const Piece& p = schedule.pieces[i];
      if (job.call.tensors[p.tensor].computing == DType::f64) {
        job.template piece<double>(job.twice, p);
      } else {
        job.template piece<float>(job.single, p);
      }
    }
  }
};

template <template <class> class K, int kGradient>
void elementwise(const Elementwise& call) {
  using Job = ElementwiseJob<K, kGradient>;
  Job job{call, Functors<K<float>, float>(call), Functors<K<double>, double>(call)};
  const int64_t groups = call.schedule.group_count;
  if (call.schedule.elements <= kSerialElements) {
    for (int64_t g = 0; g < groups; ++g) Job::group(&job, g);
  } else {
    parallel_for(groups, &Job::group, &job);
  }
}

}  // namespace
ONEPASS_END
