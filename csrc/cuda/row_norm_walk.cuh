// Rows that are walked over twice, once to add up and once to write (row_norm.cuh says which).
#pragma once
#include "cuda/folds.cuh"
#include "cuda/row_norm_finish.cuh"

ONEPASS_BEGIN
namespace {
namespace row_norms {

// The units of a thread: u, u + step, … below end, counted from the start of the row; and where
// they begin among the channels. A step needs no division.
template <int W>
struct UnitWalk {
  int64_t u, end, step;
  int64_t c, rest, c_step, rest_step, inner;

  ONEPASS_DEVICE UnitWalk(int64_t first, int64_t last, int64_t by, int64_t inner_elements)
      : u(first), end(last), step(by), inner(inner_elements) {
    const Quotient at = divide(u * W, inner), onward = divide(step * W, inner);
    c = at.whole;
    rest = at.rest;
    c_step = onward.whole;
    rest_step = onward.rest;
  }
  ONEPASS_DEVICE bool exists() const { return u < end; }
  ONEPASS_DEVICE void next() {
    u += step;
    c += c_step;
    rest += rest_step;
    if (rest >= inner) {
      rest -= inner;
      ++c;
    }
  }
};
// Units that are fetched at once: as registers allow.
template <bool kForward, int W, class Call>
constexpr int kTogether = !kForward && (W == 8 || !Call::is_light) ? 1 : 2;
// Calls use(unit, walk) for each unit of a walk, in its order; kAtOnce are fetched at once.
template <int kAtOnce, int W, class Fetch, class Use>
ONEPASS_DEVICE void each_unit(UnitWalk<W> walk, Fetch fetch, Use use) {
  if constexpr (kAtOnce == 1) {
    ONEPASS_NO_UNROLL
    for (; walk.exists(); walk.next()) use(fetch(walk.u), walk);
  } else {
    ONEPASS_NO_UNROLL
    while (walk.exists()) {
      decltype(fetch(int64_t(0))) units[kAtOnce];
      ONEPASS_UNROLL
      for (int j = 0; j < kAtOnce; ++j)
        if (walk.u + j * walk.step < walk.end) units[j] = fetch(walk.u + j * walk.step);
      ONEPASS_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        if (walk.exists()) use(units[j], walk);
        walk.next();
      }
    }
  }
}

// The sums of pieces `first` and on of a row, by a warp; `lanes` threads have one.
template <class T, bool kForward, int W, class Call>
ONEPASS_DEVICE void add_pieces(const Call& call, int64_t row, int64_t first) {
  using R = typename Call::template Rule<T>;
  const int lanes = call.path.lanes, lane = lane_of(threadIdx.x) % lanes;
  const int64_t piece = first + lane_of(threadIdx.x) / lanes, splits = call.path.splits;
  const int64_t begin = row * call.row_elements();
  const int64_t units = (call.by_channels() ? call.inner : call.row_elements()) / W;
  double s = 0, q = 0;
  if (piece < call.path.pieces) {
    const bool one = !call.by_channels();
    int64_t plane = one ? 0 : piece, from = 0, to = units;
    if (splits > 1) {
      plane = piece / splits;  // 0 for one plane
      from = units * (piece - plane * splits) / splits;
      to = units * (piece - plane * splits + 1) / splits;
    }
    const int64_t base = plane * units;
    const UnitWalk<W> walk(base + from + lane, base + to, lanes, one ? 1 : call.inner);
    if constexpr (kForward) {
      const T shift = R::kCentres ? load_element<T>(call.in(call.x), begin) : T(0);
      each_unit<4>(
          walk, [&](int64_t u) { return fetch<W, T>(call.in(call.x), begin + u * W); },
          [&](const Raw& raw, const UnitWalk<W>&) { add_moments<W>(call, raw, shift, &s, &q); });
    } else {
      const auto p = state_of<T, Call>(load_saved<T>(call, row));
      const int64_t weights = channels_of(call, row);
      T w[W], b[W];
      if (!one) load_affine<W>(call, weights, plane, 0, w, b);
      each_unit<kTogether<kForward, W, Call>>(
          walk, [&](int64_t u) { return fetch_backward<W, T>(call, begin + u * W, false); },
          [&](const Unit<T>& unit, const UnitWalk<W>& at) {
            const int64_t element = begin + at.u * W;
            T g[W], hat[W];
            if (one) load_affine<W>(call, weights, at.c, 0, w, b);
            gradient_unit<W>(call, p, unit, w, b, call.drops() ? keep_bits<W>(call, element) : 0,
                             T(1), false, g, hat);
            if (call.dresidual) store_unit<W, T>(call.in(call.dresidual), element, g);
            ONEPASS_UNROLL
            for (int i = 0; i < W; ++i) {
              const double of_g = one ? double(g[i]) * double(w[i]) : double(g[i]);
              s += of_g;
              q += of_g * double(hat[i]);
            }
          });
    }
  }
  ONEPASS_NO_UNROLL
  for (int bit = 1; bit < lanes; bit *= 2) {
    s += warp_shuffle_xor(kFullWarp, s, bit);
    q += warp_shuffle_xor(kFullWarp, q, bit);
  }
  if (lane != 0 || piece >= call.path.pieces) return;
  double* sums = call.partial + (row * call.path.pieces + piece) * 2;
  sums[0] = s;
  sums[1] = q;
}

// By a warp: folds the pieces of a row and leaves what follows for those that apply it.
template <class T, bool kForward, class Call>
ONEPASS_DEVICE void finish_row(const Call& call, int64_t row) {
  const int64_t pieces = call.path.pieces;
  const double* sums = call.partial + row * pieces * 2;
  const Memory weights = memory(call.weight);
  const int64_t base = channels_of(call, row);
  double s = 0, q = 0;
  for (int64_t i = lane_of(threadIdx.x); i < pieces; i += kWarpSize) {
    const double w =
        call.by_channels() ? load_wide(weights, base + divide(i, call.path.splits).whole, 1) : 1.0;
    s += w * sums[2 * i];
    q += w * sums[2 * i + 1];
  }
  s = warp_fold(s, Plus{});
  q = warp_fold(q, Plus{});
  const bool stores = lane_of(threadIdx.x) == 0;
  if constexpr (kForward) {
    const T first = Call::template Rule<T>::kCentres
                        ? load_element<T>(call.in(call.x), row * call.row_elements())
                        : T(0);
    finish_forward<T>(call, row, s, q, first, stores);
  } else {
    auto p = state_of<T, Call>(load_saved<T>(call, row));
    finish_backward<T>(call, row, s, q, &p);
    if (!stores) return;
    T* to = static_cast<T*>(call.corrections) + row;
    to[0] = p.level;
    to[call.rows()] = p.slope;
    to[2 * call.rows()] = p.g_scale;
  }
}

// The units of share `split` of a row, by `threads` threads of which this is `thread`.
template <class T, bool kForward, int W, class Call>
ONEPASS_DEVICE void apply_row(const Call& call, int64_t row, int64_t split, int64_t splits,
                              int thread, int threads) {
  const int64_t begin = row * call.row_elements(), units = call.row_elements() / W;
  const int64_t base = channels_of(call, row);
  auto p = state_of<T, Call>(load_saved<T>(call, row));
  if constexpr (!kForward) {
    const T* from = static_cast<const T*>(call.corrections) + row;
    p.level = from[0];
    p.slope = from[call.rows()];
    p.g_scale = from[2 * call.rows()];
  }
  const UnitWalk<W> walk(units * split / splits + thread, units * (split + 1) / splits, threads,
                         call.inner);
  const bool kept_gradient = call.kept_gradient != nullptr;
  each_unit<kTogether<kForward, W, Call>>(
      walk,
      [&](int64_t u) {
        if constexpr (kForward) {
          return fetch_forward<W, T>(call, begin + u * W);
        } else {
          return fetch_backward<W, T>(call, begin + u * W, true);
        }
      },
      [&](const Unit<T>& unit, const UnitWalk<W>& at) {
        const int64_t element = begin + at.u * W;
        const uint32_t kept =
            call.drops() && (kForward || !kept_gradient) ? keep_bits<W>(call, element) : 0;
        T w[W], b[W];
        load_affine<W>(call, base, at.c, at.rest, w, b);
        if constexpr (kForward) {
          store_output<W>(call, p, unit, w, b, element, kept);
        } else {
          T g[W], hat[W];
          gradient_unit<W>(call, p, unit, w, b, kept, p.g_scale, kept_gradient, g, hat);
          store_input_gradient<W>(call, p, g, hat, w, p.g_scale, element);
        }
      });
}

}  // namespace row_norms
}  // namespace
ONEPASS_END
