// The elementwise driver: runs any functor (activation, dropout, optimizer update) over a list of
// tensors of any dtype and layout, in one pass over memory. It converts operands that are not dense
// arrays of the computing type block by block in the first-level cache. It composes the riders of
// an optimizer step (unscale, clip, zero) with the update.
//
// Leaf loops take everything by value and name every operand: through a local array or a reference
// they would not vectorise. They are noinline: inside a large driver GCC spills their registers.
// No __restrict: an output may be exactly an input.
#pragma once
#include "core/rule.h"
#include "cpu/blocks.h"
#include "cpu/keep_words.h"
#include "cpu/parallel.h"
#include "kernels/activation.h"
#include "kernels/dropout.h"
#include "kernels/gradient.h"

ONEPASS_BEGIN
namespace {

// Below this many elements waking a worker costs more than it saves.
constexpr int64_t kSerialElements = 12 * 1024;

template <class K, class T, class... P>
[[gnu::noinline]] void leaf(const K k, int64_t n, P... p) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) k(p[i]...);
}
template <class K, class T, class... P>
[[gnu::noinline]] void leaf_returning(const K k, int64_t n, T* out, P... p) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) out[i] = k(p[i]...);
}
// Whether each of n elements is usual to an activation.
template <class A, class T>
[[gnu::noinline]] bool all_usual(int64_t n, const T* x) {
  uint32_t others = 0;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) others |= !A::is_usual(x[i]);
  return others == 0;
}
template <class K, class = void>
constexpr bool kHasUsual = false;
template <class K>
constexpr bool kHasUsual<K, std::void_t<typename K::Usual>> = has_usual<typename K::Rule>;

// A functor that returns a value; one of an activation, whose last operand is x, block by block
// where blocks of usual elements have a loop of their own.
template <class K, class T, class... P>
void run_returning(const K& k, int64_t n, T* out, P... p) {
  if constexpr (kHasUsual<K>) {
    using Usual = typename K::Usual;
    const T* x = nullptr;
    ((x = p), ...);
    for (int64_t i = 0; i < n; i += kBlockElements) {
      const int64_t m = n - i < kBlockElements ? n - i : kBlockElements;
      if (all_usual<typename K::Rule>(m, x + i)) {
        leaf_returning<Usual, T>(Usual{k.f}, m, out + i, p + i...);
      } else {
        leaf_returning<K, T>(k, m, out + i, p + i...);
      }
    }
  } else {
    leaf_returning<K, T>(k, n, out, p...);
  }
}
template <class K, class T, class... P>
[[gnu::noinline]] void leaf_drawing(const K k, int64_t n, const uint32_t* words, T* out, P... p) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const uint32_t word = words[i / 32];
#pragma GCC ivdep
    for (int l = 0; l < 32; ++l) out[i + l] = k(p[i + l]..., Keep::of(word, l));
  }
  if (i == n) return;
  // Vectorise the rest too: small planes make short runs.
  const uint32_t word = words[i / 32];
  const int rest = int(n - i);
#pragma GCC ivdep
  for (int l = 0; l < rest; ++l) out[i + l] = k(p[i + l]..., Keep::of(word, l));
}

// A functor that computes many elements at a time has run(n, operands...), and no loop here.
template <class K, class = void>
constexpr bool kRunsBlocks = false;
template <class K>
constexpr bool kRunsBlocks<K, std::void_t<decltype(&K::run)>> = true;

template <class K, class T, size_t... I>
ONEPASS_HD void run_leaf(const K& k, int64_t n, T* const* at, const uint32_t* words,
                         std::index_sequence<I...>) {
  if constexpr (kRunsBlocks<K>) {
    k.run(n, at[I]...);
  } else if constexpr (Signature<K>::draws) {
    leaf_drawing<K, T>(k, n, words, at[I]...);
  } else if constexpr (Signature<K>::returns) {
    run_returning<K, T>(k, n, at[I]...);
  } else {
    leaf<K, T>(k, n, at[I]...);
  }
}

template <class K, class T, size_t... J>
ONEPASS_HD void run_update(const K& k, const GradientRider& rider, int64_t n, T* const* at,
                           std::index_sequence<J...>) {
  using S = Signature<K>;
  const PrepareGradient<T> prepare(rider.unscale, rider.max_value, {rider.coefficient, rider.rest});
  if (rider.zero_grad) {
    leaf<Ridden<K, T, true>, T>({k, prepare}, n, argument<S, J>(at)...);
  } else if (rider.active()) {
    leaf<Ridden<K, T, false>, T>({k, prepare}, n, argument<S, J>(at)...);
  } else {
    leaf<K, T>(k, n, argument<S, J>(at)...);
  }
}

// The keep bits of a piece.
inline void draw_words(uint32_t* words, const Elementwise& call, const Piece& piece) {
  const int64_t count = (piece.size + 31) / 32, repeat = call.repeat;
  if (repeat == 1) return keep_words(words, piece.begin / 32, count, call.random);
  uint32_t drawn[kGroupElements / 64 + 8];  // a run may begin before the piece
  int64_t run = piece.begin / repeat, phase = piece.begin % repeat;
  const int64_t first = run / 32 & ~int64_t(3);  // words come in groups of four
  const int64_t last = (piece.begin + piece.size - 1) / repeat / 32;
  keep_words(drawn, first, last + 1 - first, call.random);
  for (int64_t i = 0; i < count; ++i) {
    words[i] = repeated_bits(drawn[run / 32 - first] >> (run % 32), phase, repeat);
    for (phase += 32; phase >= repeat; phase -= repeat) ++run;
  }
}

// Runs a functor over one piece of one tensor. kGradient is the operand that the rider prepares, or
// -1 if the functor is not an optimizer update. With `stream` the output, which is dense and of
// type T, goes past the caches.
template <class K, class T, int kGradient>
void run_piece(const K k, const Elementwise& call, const Piece piece, bool stream) {
  using S = Signature<K>;
  constexpr auto kOperands = std::make_index_sequence<S::arity>{};
  const Tensor& tensor = call.tensors[piece.tensor];
  alignas(64) T scratch[S::arity][kBlockElements];
  uint32_t words[kGroupElements / 32];
  if constexpr (S::draws) draw_words(words, call, piece);

  bool in_place[S::arity];
  bool all_in_place = true;
  for (size_t o = 0; o < S::arity; ++o) {
    in_place[o] = is_direct<T>(tensor.operands[o]) && !(o == 0 && stream);
    all_in_place = all_in_place && in_place[o];
  }
  int64_t most = all_in_place ? piece.size : kBlockElements;  // of the next block
  // A first block that ends with a cache line lets every later one stream whole lines. Blocks of
  // functors that draw start at whole words instead.
  if (stream && !S::draws)
    most -= past_line(static_cast<T*>(tensor.operands[0].data) + piece.begin);
  for (int64_t done = 0; done < piece.size;) {
    const int64_t begin = piece.begin + done;
    const int64_t n = most < piece.size - done ? most : piece.size - done;
    T* at[S::arity];
    for (size_t o = 0; o < S::arity; ++o) {
      at[o] = in_place[o] ? static_cast<T*>(tensor.operands[o].data) + begin : scratch[o];
      if (!in_place[o] && S::reads(o)) load_block(tensor, tensor.operands[o], begin, n, at[o]);
    }
    if constexpr (kGradient >= 0) {
      run_update<K, T>(k, call.rider, n, at, std::make_index_sequence<S::named>{});
    } else {
      run_leaf<K, T>(k, n, at, words + done / 32, kOperands);
    }
    for (size_t o = 0; o < S::arity; ++o) {
      if (in_place[o]) continue;
      if (stream && o == 0) {
        stream_run(static_cast<T*>(tensor.operands[o].data) + begin, scratch[o], n);
      } else if (S::writes(o) || (int(o) == kGradient && call.rider.zero_grad)) {
        store_block(tensor, tensor.operands[o], begin, n, scratch[o]);
      }
    }
    done += n;
    most = kBlockElements;
  }
  if (stream) stream_fence();
}

// The same of an update with stages around it: cpu/staged_piece.h.
template <class K, class T>
void run_staged_piece(const K k, const Elementwise& call, const Piece piece);

template <class T>
bool computes(const Elementwise& call) {
  for (int64_t t = 0; t < call.count; ++t)
    if (same_dtype<T>(call.tensors[t].computing)) return true;
  return false;
}

// The functors of a call, one per row of hyper-parameters. They are built once, because the
// constructor of an update computes powers; those of rows beyond kMost are built again for each
// piece.
template <class K, class T>
struct Functors {
  static constexpr int64_t kMost = 64;
  alignas(K) unsigned char storage[kMost * sizeof(K)];
  const Elementwise& call;

  explicit Functors(const Elementwise& c) : call(c) {
    if (!computes<T>(c)) return;
    for (int64_t r = 0; r < c.hyper_rows && r < kMost; ++r)
      *reinterpret_cast<K*>(storage + r * int64_t(sizeof(K))) = make(r);
  }
  ONEPASS_HD K make(int64_t row) const {
    if constexpr (Signature<K>::draws) {
      return K::of(call.random.threshold);
    } else {
      return make_functor<K, T>(call.hyper + row * call.hyper_size);
    }
  }
  ONEPASS_HD K at(int64_t row) const {
    if (row >= kMost) return make(row);
    return *reinterpret_cast<const K*>(storage + row * int64_t(sizeof(K)));
  }
  ONEPASS_HD K of(const Tensor& tensor) const {
    K k = at(tensor.hyper_set);
    show(&k, tensor.size, tensor.operands[0].dtype);
    if constexpr (kNorms<K> > 0) k.take(call.norms + tensor.parameter * int64_t(kNorms<K>));
    return k;
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
      stream = is_streamed(tensor.size * int64_t(sizeof(T))) && is_direct<T>(out);
      for (size_t o = 1; o < Signature<K<T>>::arity; ++o)
        stream = stream && tensor.operands[o].data != out.data;  // in place: already in cache
    }
    if constexpr (kGradient >= 0)
      if (call.stages.active) return run_staged_piece<K<T>, T>(functors.of(tensor), call, p);
    run_piece<K<T>, T, kGradient>(functors.of(tensor), call, p, stream);
  }
  void pieces_of(int64_t g) const {
    for (int64_t i = call.schedule.groups[g]; i < call.schedule.groups[g + 1]; ++i) {
      const Piece& p = call.schedule.pieces[i];
      if (call.tensors[p.tensor].computing == DType::f64) {
        piece<double>(twice, p);
      } else {
        piece<float>(single, p);
      }
    }
  }
  static void group(void* context, int64_t g) {
    const ElementwiseJob& job = *static_cast<const ElementwiseJob*>(context);
    if constexpr (kGradient >= 0) {
      // Second moments of dead units decay into subnormals, which cost up to six times the time.
      const FlushDenormals flush;
      job.pieces_of(g);
    } else {
      job.pieces_of(g);
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
