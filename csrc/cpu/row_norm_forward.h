// A row norm forward: the statistics of a row, then y while x is in a cache.
#pragma once
#include "cpu/moment_sums.h"
#include "cpu/row_norm_call.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

// Σd and Σd² over a row.
struct Sums {
  double sum, squares;
};

template <class Call>
struct Forward {
  using R = typename Call::R;
  using T = typename Call::T;

  const Call& call;

  T first_of(int64_t row) const {
    T x = 0;
    return R::kCentres ? *fetch<T>(call.norm.x, call.norm.dtype, call.begin_of(row), 1, &x) : T(0);
  }
  // Of x·by about first·by. exact: each square in double.
  Sums moments(int64_t row, T first, T by, bool exact) const {
    alignas(kLine) double s[kSumLanes] = {}, q[kSumLanes] = {};
    T scratch[kBlockElements];
    const int64_t begin = call.begin_of(row);
    for (int64_t i = 0; i < call.cut.length; i += kBlockElements) {
      const int64_t n = smaller(kBlockElements, call.cut.length - i);
      const T* x = fetch<T>(call.norm.x, call.norm.dtype, begin + i, n, scratch);
      if (by != T(1)) x = normalise::scale_run(n, x, Uniform<T>{by}, scratch);
      if (R::kCentres || exact) {
        normalise::add_moments_of_plane(n, s, q, x, Uniform<T>{first * by}, exact);
      } else {
        normalise::add_terms_of_plane(n, q, s, Squares<T, kSumLanes>{x});
      }
    }
    return {fold_lanes_by_halves(s), fold_lanes_by_halves(q)};
  }
  // For running statistics: those of the sums of d·by. Only centring norms have them.
  void keep_statistics(int64_t row, Sums m, double first, double by) const {
    if (!call.norm.running_mean.data && !call.norm.running_var.data) return;
    const auto found =
        moments_of_scaled<BatchNormRule<double>>(m.sum, m.squares, first, by, call.part);
    call.sums[row] = found.mean;
    call.sums[call.cut.rows + row] = found.variance;
  }
  // Where squares leave the range of the computing type, or vanish in it.
  [[gnu::noinline]] typename R::Saved careful_statistics(int64_t row, T first, double scale) const {
    const Sums m = moments(row, first, T(scale), true);
    keep_statistics(row, m, double(first), scale);
    return row_of_scaled<R>(m.sum, m.squares, double(first), scale, call.part, call.norm.eps);
  }
  typename R::Saved statistics(int64_t row) const {
    const T first = first_of(row);
    const Sums m = moments(row, first, T(1), false);
    const double scale = row_moments_scale<T>(m.sum, m.squares, double(first),
                                              double(call.cut.length), call.norm.eps);
    if (scale != 0) return careful_statistics(row, first, scale);
    keep_statistics(row, m, double(first), 1);
    return R::save(m.sum, m.squares, double(first), call.part, call.norm.eps);
  }

  template <class W>
  void write(const RowState<R, T>& state, int64_t at, int64_t n, int64_t end, W weight, W bias,
             KeepBits& bits) const {
    const RowNorm& norm = call.norm;
    T x_scratch[kBlockElements], y_scratch[kBlockElements];
    const T* x = call.x_of(state, at, n, x_scratch);
    const T* residual = nullptr;
    if (norm.epilogue.residual)
      residual = fetch<T>(norm.epilogue.residual, norm.dtype, at, n, y_scratch);
    const uint32_t* words = call.drops() ? bits.at(at, n, end) : nullptr;
    T* y = call.direct && !call.stream ? static_cast<T*>(norm.y) + at : y_scratch;
    const RowAffine<R, T> affine{state.hat, call.dropout};
    call.flushed([&] {
      compose(affine, n, call.is_identity() ? words : nullptr, residual, y, x, weight, bias);
    });
    finish(at, n, call.is_identity() ? nullptr : words, y);
  }
  // What follows z.
  void finish(int64_t at, int64_t n, const uint32_t* words, T* y) const {
    const Epilogue& epilogue = call.norm.epilogue;
    if (!call.is_identity()) call.blocks.forward[epilogue.activation](n, epilogue.options, y, y);
    if (words) leaf_drawing<Dropout<T>, T>(call.dropout, n, words, y, y);
    if (call.stream) {
      stream_run(static_cast<T*>(call.norm.y) + at, y, n);
    } else {
      put<T>(call.norm.y, call.norm.dtype, at, n, y);
    }
  }
  RowState<R, T> measure(int64_t row) const {
    const auto saved = statistics(row);
    call.saved_row(0)[row] = saved.mean;
    call.saved_row(1)[row] = saved.lost;
    call.saved_row(2)[row] = saved.rstd;
    return call.state_of(saved);
  }
  void row(int64_t row, int64_t end, KeepBits& bits) const {
    const auto state = measure(row);
    call.each_run(row, [&](int64_t at, int64_t count, auto weight, auto bias, int64_t) {
      for (int64_t i = 0; i < count; i += kBlockElements)
        write(state, at + i, smaller(kBlockElements, count - i), end, Call::from(weight, i),
              Call::from(bias, i), bits);
    });
  }

  // ---- short rows, several at once

  // Statistics of rows [row, row + rows), and whether each of them wants care: then they are not
  // right.
  bool tile_statistics(int64_t row, int64_t rows, const T* x, TileRows<T>* tile,
                       bool* careful) const {
    double s[kTileRows], q[kTileRows];
    const int64_t n = call.cut.length;
    moments_of_rows<R>(rows, n, x, s, q);
    T *mean = call.saved_row(0) + row, *lost = call.saved_row(1) + row,
      *rstd = call.saved_row(2) + row;
    bool any = false;
    for (int64_t r = 0; r < rows; ++r) {
      const double first = R::kCentres ? double(x[r * n]) : 0;
      const auto saved = R::save(s[r], q[r], first, call.part, call.norm.eps);
      careful[r] = row_moments_scale<T>(s[r], q[r], first, double(n), call.norm.eps) != 0 ||
                   leaves_range(saved.mean, saved.rstd, saved.rstd);
      any = any || careful[r];
      mean[r] = saved.mean;
      lost[r] = saved.lost;
      rstd[r] = saved.rstd;
      tile->set_hat(r, {saved.mean, saved.rstd, R::offset(saved)});
      keep_statistics(row + r, {s[r], q[r]}, first, 1);
    }
    return any;
  }
  // The same, right for all of them.
  void measure_tile(int64_t row, int64_t rows, const T* x) const {
    TileRows<T> tile;
    bool careful[kTileRows];
    if (!tile_statistics(row, rows, x, &tile, careful)) return;
    for (int64_t r = 0; r < rows; ++r)
      if (careful[r]) measure(row + r);
  }
  template <bool kColumns>
  void tile(int64_t row, int64_t rows, int64_t end, KeepBits& bits) const {
    const RowNorm& norm = call.norm;
    const int64_t length = call.cut.length, n = rows * length, at = call.begin_of(row);
    T x_scratch[kBlockElements], y_scratch[kBlockElements];
    TileRows<T> tile;
    bool careful[kTileRows];
    const T* const x = fetch<T>(norm.x, norm.dtype, at, n, x_scratch);
    const uint32_t* words = call.drops() ? bits.at(at, n, end) : nullptr;
    T* const y = call.direct && !call.stream ? static_cast<T*>(norm.y) + at : y_scratch;
    const T* residual = nullptr;
    if (norm.epilogue.residual)
      residual = fetch<T>(norm.epilogue.residual, norm.dtype, at, n, y_scratch);
    call.place_weights(row, rows, &tile);
    bool care;
    call.flushed([&] {
      care = tile_statistics(row, rows, x, &tile, careful);
      if (residual) {
        affine_rows<R, kColumns>(rows, length, tile, residual, x, y);
      } else {
        affine_rows<R, kColumns>(rows, length, tile, Absent{}, x, y);
      }
    });
    finish(at, n, words, y);
    if (!care) return;
    for (int64_t r = 0; r < rows; ++r)
      if (careful[r]) this->row(row + r, end, bits);
  }
  void rows(int64_t first, int64_t last, KeepBits& bits) const {
    const int64_t end = call.begin_of(last), step = call.cut.tile_rows();
    if (!call.cut.tiles) {
      for (int64_t r = first; r < last; ++r) row(r, end, bits);
    } else if (call.cut.runs) {
      for (int64_t r = first; r < last; r += step)
        tile<false>(r, smaller(step, last - r), end, bits);
    } else {
      for (int64_t r = first; r < last; r += step)
        tile<true>(r, smaller(step, last - r), end, bits);
    }
  }
  static void task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const int64_t first = index * call.cut.task_rows();
    const int64_t last = smaller(first + call.cut.task_rows(), call.cut.rows);
    KeepBits bits = call.keep_bits();
    call.flushed_task([&] { Forward{call}.rows(first, last, bits); });
    if (call.stream) stream_fence();
  }

  // Running statistics move to the mean over outer of what the rows of each group have, times `by`.
  void move_running(const ChannelVector& v, const double* of_rows, double by) const {
    if (!v.data) return;
    double running[kUnits], mean[kUnits];
    for (int64_t g = 0; g < call.norm.groups; g += kUnits) {
      const int64_t n = smaller(kUnits, call.norm.groups - g);
      for (int64_t k = 0; k < n; ++k) mean[k] = 0;
      for (int64_t o = 0; o < call.norm.outer; ++o)
        for (int64_t k = 0; k < n; ++k) mean[k] += of_rows[o * call.norm.groups + g + k];
      for (int64_t k = 0; k < n; ++k) mean[k] *= by / double(call.norm.outer);
      load_channels(v, g, n, 0, running);
      for (int64_t k = 0; k < n; ++k)
        running[k] = BatchNormRule<T>::running(running[k], mean[k], call.norm.momentum);
      store_channels(v, g, n, running);
    }
  }
  void run() const {
    call.prepare();
    call.run(&task, ceil_div(call.cut.rows, call.cut.task_rows()));
    const double bessel = BatchNormRule<T>::bessel(double(call.cut.length));
    move_running(call.norm.running_mean, call.sums, 1);
    move_running(call.norm.running_var, call.sums + call.cut.rows, bessel);
  }
};

}  // namespace row_norms
}  // namespace
ONEPASS_END
