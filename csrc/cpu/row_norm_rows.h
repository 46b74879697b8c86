// A row backward by itself: its sums, then its dx while x and dy are in a cache. What leaves the
// range of the computing type ends here too (kernels/norm_range.h).
#pragma once
#include "cpu/row_norm_forward.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

// The first walk over a row computes g, delivers it and keeps it. Sums that leave the range are
// taken again, of g·g_scale.
enum class Walk { first, again };

template <class Call>
struct RowBackward {
  using R = typename Call::R;
  using T = typename Call::T;
  using State = RowState<R, T>;

  const Call& call;

  // g is dy itself.
  bool is_dy() const { return call.is_identity() && !call.drops(); }
  // Memory that keeps g from the sums to dx; null: g is dy, or is computed again.
  T* kept() const {
    if (is_dy() || !call.direct) return nullptr;
    return static_cast<T*>(call.norm.dresidual ? call.norm.dresidual : call.norm.dx);
  }

  // g of a run; `scratch` may become it.
  template <class W>
  const T* gradient(const State& state, int64_t at, int64_t n, int64_t end, W weight, W bias,
                    KeepBits& bits, T* scratch) const {
    const RowNorm& norm = call.norm;
    const T* dy = fetch<T>(norm.dy, norm.dtype, at, n, scratch);
    if (is_dy()) return dy;
    T* const kept = this->kept();
    T* g = kept ? kept + at : scratch;
    T z[kBlockElements];
    if (!call.is_identity()) {
      T x_scratch[kBlockElements], residual_scratch[kBlockElements];
      const T* x = call.x_of(state, at, n, x_scratch);
      const T* residual = nullptr;
      if (norm.epilogue.residual)
        residual = fetch<T>(norm.epilogue.residual, norm.dtype, at, n, residual_scratch);
      const FlushDenormals flush;
      const RowAffine<R, T> affine{state.hat, call.dropout};
      compose(affine, n, nullptr, residual, z, x, weight, bias);
    }
    const uint32_t* words = call.drops() ? bits.at(at, n, end) : nullptr;
    if (words) leaf_drawing<Dropout<T>, T>(call.dropout, n, words, g, dy);
    if (!call.is_identity())
      call.blocks.backward[norm.epilogue.activation](n, norm.epilogue.options, words ? g : dy, z,
                                                     g);
    return g;
  }
  // The same where it has been computed before.
  template <class W>
  const T* gradient_again(const State& state, int64_t at, int64_t n, int64_t end, W weight, W bias,
                          KeepBits& bits, T* scratch) const {
    if (const T* const kept = this->kept()) return kept + at;
    return gradient(state, at, n, end, weight, bias, bits, scratch);
  }

  // Adds Σ g·w and Σ g·w·x̂ of a run to the lanes s and q.
  template <class W>
  void add_run(const State& state, int64_t n, const T* g, const T* x, W weight, double* s,
               double* q) const {
    call.flushed(
        [&] { normalise::add_terms_of_plane(n, s, q, RowPair<R, T, W>{state.hat, g, x, weight}); });
  }
  // Those of a whole short run, which needs one lane for each.
  template <class W>
  void add_short_run(const State& state, int64_t n, const T* g, const T* x, W weight, double* s,
                     double* q) const {
    TileRows<T> tile;
    tile.set_hat(0, state.hat);
    call.flushed([&] {
      if constexpr (std::is_pointer_v<W>) {
        tile.weight[0] = weight;
        gradient_sums_of_rows<R, true>(1, n, tile, g, x, s, q);
      } else {
        gradient_sums_of_rows<R, false>(1, n, tile, g, x, s, q);
      }
    });
  }
  // The sums of a row; `of_channels`, if given, gets those of each channel without its weight.
  void sum_row(int64_t row, int64_t end, const State& state, Walk walk, KeepBits& bits, double* s,
               double* q, double* of_channels) const {
    const bool first = walk == Walk::first;
    *s = *q = 0;
    call.each_run(row, [&](int64_t at, int64_t count, auto weight, auto bias, int64_t channel) {
      alignas(kLine) double lane_s[kSumLanes] = {}, lane_q[kSumLanes] = {};
      for (int64_t i = 0; i < count; i += kBlockElements) {
        const int64_t n = smaller(kBlockElements, count - i);
        T g_scratch[kBlockElements], x_scratch[kBlockElements];
        const auto w = Call::from(weight, i), b = Call::from(bias, i);
        const T* g = first ? gradient(state, at + i, n, end, w, b, bits, g_scratch)
                           : gradient_again(state, at + i, n, end, w, b, bits, g_scratch);
        if (first && call.norm.dresidual)
          put<T>(call.norm.dresidual, call.norm.dtype, at + i, n, g);
        if (!first) g = normalise::scale_run(n, g, Uniform<T>{state.g_scale}, g_scratch);
        const T* x = call.x_of(state, at + i, n, x_scratch);
        if (call.cut.is_short) {
          add_short_run(state, n, g, x, w, lane_s, lane_q);
        } else if constexpr (std::is_pointer_v<decltype(weight)>) {
          add_run(state, n, g, x, w, lane_s, lane_q);
        } else {
          add_run(state, n, g, x, Uniform<T>{T(1)}, lane_s, lane_q);
        }
      }
      double sum = call.cut.is_short ? lane_s[0] : fold_lanes_by_halves(lane_s);
      double products = call.cut.is_short ? lane_q[0] : fold_lanes_by_halves(lane_q);
      if constexpr (!std::is_pointer_v<decltype(weight)>) {
        if (of_channels) {
          const double by = first ? 1 : double(state.g_scale);
          of_channels[channel] = sum / by;
          of_channels[channel + call.cut.sums() / 2] = products / by;
        }
        sum *= double(weight.value);
        products *= double(weight.value);
      }
      *s += sum;
      *q += products;
    });
  }
  double* channel_sums(int64_t row) const {
    return call.cut.runs && call.wants_parameters() ? call.sums + row * call.norm.channels
                                                    : nullptr;
  }
  // A row's statistics and sums.
  State prepare(int64_t row, int64_t end, KeepBits& bits) const {
    State state =
        call.norm.takes_statistics ? Forward<Call>{call}.measure(row) : call.state_of(row);
    double s, q;
    sum_row(row, end, state, Walk::first, bits, &s, &q, channel_sums(row));
    finish(row, end, s, q, &state);
    return state;
  }
  void finish(int64_t row, int64_t end, double s, double q, State* state) const {
    if (sum_leaves_range<T>(s) || sum_leaves_range<T>(q)) {
      state->g_scale = NormRange<T>::kGradientDown;
      KeepBits again = call.keep_bits();
      sum_row(row, end, *state, Walk::again, again, &s, &q, channel_sums(row));
    } else {
      s *= double(state->g_scale);
      q *= double(state->g_scale);
    }
    const auto c = R::correction(s, q, call.part);
    state->level = c.level;
    state->slope = c.slope;
  }

  template <class W>
  void write(const State& state, int64_t at, int64_t n, const T* g, const T* x, W weight,
             T* scratch) const {
    T* dx = call.direct ? static_cast<T*>(call.norm.dx) + at : scratch;
    if (state.g_scale != T(1)) g = normalise::scale_run(n, g, Uniform<T>{state.g_scale}, scratch);
    const RowInputGradient<R, T> k{state.hat, state.level, state.slope};
    call.flushed([&] { leaf_returning<RowInputGradient<R, T>, T>(k, n, dx, g, x, weight); });
    if (state.g_scale != T(1))
      normalise::unscale_run(n, dx, Uniform<T>{state.x_scale()}, Uniform<T>{state.g_scale});
    put<T>(call.norm.dx, call.norm.dtype, at, n, dx);
  }
  void write_row(int64_t row, int64_t end, const State& state, KeepBits& again) const {
    call.each_run(row, [&](int64_t at, int64_t count, auto weight, auto bias, int64_t) {
      for (int64_t i = 0; i < count; i += kBlockElements) {
        const int64_t n = smaller(kBlockElements, count - i);
        T g_scratch[kBlockElements], x_scratch[kBlockElements], scratch[kBlockElements];
        const auto w = Call::from(weight, i), b = Call::from(bias, i);
        const T* x = call.x_of(state, at + i, n, x_scratch);
        const T* g = gradient_again(state, at + i, n, end, w, b, again, g_scratch);
        write(state, at + i, n, g, x, w, scratch);
      }
    });
  }
  void row(int64_t row, int64_t end, KeepBits& bits, KeepBits& again) const {
    const State state = prepare(row, end, bits);
    if (call.norm.dx) write_row(row, end, state, again);
  }
};

}  // namespace row_norms
}  // namespace
ONEPASS_END
