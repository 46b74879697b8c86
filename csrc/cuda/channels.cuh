// Shares the elements of a group of channels among the threads of a block, as planes (one channel
// each) or columns (channel_path.h), and folds their sums.
#pragma once
#include "cuda/channel_path.h"
#include "cuda/folds.cuh"

ONEPASS_BEGIN
namespace {
namespace normalise {

// Where a thread is in its units: `at` is the first element of the current one, `left` how many
// there are. A step needs no division.
struct Walk {
  int64_t left, at;
  int64_t step;  // elements to the next unit
  // For planes: the position in the plane, the step and the plane's length, all in units; and the
  // number of elements from the end of a plane to the channel's next plane.
  int64_t rest, rest_step, length, gap;

  ONEPASS_DEVICE void next() {
    --left;
    at += step;
    if (length == 0) return;
    rest += rest_step;
    if (rest < length) return;
    rest -= length;
    at += gap;
  }
};

// The units of a thread: u = first, first + step, … below end.
template <int W, bool kColumns>
struct Share {
  int64_t first, step, end;
  int64_t start;  // planes: the channel; columns: the thread's first column
  int64_t channels, inner;
  bool active;

  template <class Call>
  ONEPASS_DEVICE Share(const Call& call, int64_t group, int64_t split, int64_t splits)
      : channels(call.channels), inner(call.inner) {
    if constexpr (kColumns) {
      const int lanes = call.path.lanes, rows = kThreads / lanes;
      const int row = int(threadIdx.x) / lanes;
      start = (group * lanes + int(threadIdx.x) % lanes) * W;
      active = row < rows && start < columns();
      first = call.outer * split / splits + row;
      end = active ? call.outer * (split + 1) / splits : 0;
      step = rows;
    } else {
      const int64_t units = call.outer * (inner / W);
      start = group;
      active = true;
      first = units * split / splits + threadIdx.x;
      end = units * (split + 1) / splits;
      step = kThreads;
    }
  }
  ONEPASS_DEVICE int64_t columns() const { return channels * inner; }
  // The channel of element i of the thread's units; for planes it is the same for all.
  ONEPASS_DEVICE int64_t channel(int i) const {
    if constexpr (kColumns) return inner == 1 ? start + i : (start + i) / inner;
    return start;
  }
  ONEPASS_DEVICE Walk walk() const {
    Walk w{};
    if (first >= end) return w;
    w.left = (end - first + step - 1) / step;
    if constexpr (kColumns) {
      w.at = first * columns() + start;
      w.step = step * columns();
    } else {
      w.length = inner / W;
      w.rest = first % w.length;
      w.rest_step = step % w.length;
      w.gap = (channels - 1) * inner;
      w.at = (first / w.length * channels + start) * inner + w.rest * W;
      w.step = step / w.length * channels * inner + w.rest_step * W;
    }
    return w;
  }
};

// Calls use(unit, at, n) for each unit of a walk, the nth; kTogether are fetched at once, by
// fetch(at, n).
template <int kTogether, class Fetch, class Use>
ONEPASS_DEVICE void each_unit(Walk walk, Fetch fetch, Use use) {
  using U = decltype(fetch(int64_t(0), 0));
  int n = 0;
  ONEPASS_NO_UNROLL
  for (; walk.left > 0; n += kTogether) {
    U units[kTogether];
    int64_t at[kTogether];
    bool exists[kTogether];
    ONEPASS_UNROLL
    for (int j = 0; j < kTogether; ++j) {
      exists[j] = walk.left > 0;
      at[j] = walk.at;
      if (exists[j]) units[j] = fetch(at[j], n + j);
      walk.next();
    }
    ONEPASS_UNROLL
    for (int j = 0; j < kTogether; ++j)
      if (exists[j]) use(units[j], at[j], n + j);
  }
}

// The sums of a thread, one pair for each of its channels.
template <int N>
struct Sums {
  double s[N], q[N];
};

// Shared memory of a block of columns: for their parameters, then for their sums.
template <int W>
ONEPASS_DEVICE double* columns_memory() {
  ONEPASS_SHARED(double, all, [2 * W * kThreads]);
  return all;
}

// The sums of the block's channels; f(channel, s, q) runs in one thread for each.
template <int W, bool kColumns, class F, class Call>
ONEPASS_DEVICE void fold_sums(const Call& call, const Share<W, kColumns>& share,
                              const Sums<kColumns ? W : 1>& sums, F f) {
  if constexpr (kColumns) {
    double* const all_s = columns_memory<W>();
    double* const all_q = all_s + W * kThreads;
    block_sync();  // another thread may still read parameters there
    ONEPASS_UNROLL
    for (int w = 0; w < W; ++w) {
      all_s[w * kThreads + int(threadIdx.x)] = sums.s[w];
      all_q[w * kThreads + int(threadIdx.x)] = sums.q[w];
    }
    block_sync();
    const int lanes = call.path.lanes, rows = kThreads / lanes, columns = lanes * W;
    const auto add_column = [&](int i, double* s, double* q) {
      for (int row = 0; row < rows; ++row) {
        *s += all_s[i % W * kThreads + row * lanes + i / W];
        *q += all_q[i % W * kThreads + row * lanes + i / W];
      }
    };
    const int inner = int(call.inner), channels = columns / inner;
    const int64_t first = share.start / columns * channels;  // of the group
    if (inner == 1) {
      for (int i = int(threadIdx.x); i < channels; i += kThreads) {
        double s = 0, q = 0;
        add_column(i, &s, &q);
        if (first + i < call.channels) f(first + i, s, q);
      }
      return;
    }
    for (int i = warp_of(threadIdx.x); i < channels;
         i += kWarps) {  // a warp for a channel's columns
      double s = 0, q = 0;
      for (int j = lane_of(threadIdx.x); j < inner; j += kWarpSize)
        add_column(i * inner + j, &s, &q);
      s = warp_fold(s, Plus{});
      q = warp_fold(q, Plus{});
      if (lane_of(threadIdx.x) == 0 && first + i < call.channels) f(first + i, s, q);
    }
  } else {
    ONEPASS_SHARED(double, parts, [kWarps]);
    const double s = block_fold(sums.s[0], Plus{}, parts);
    const double q = block_fold(sums.q[0], Plus{}, parts);
    if (threadIdx.x == 0) f(share.start, s, q);
  }
}

}  // namespace normalise
}  // namespace
ONEPASS_END
