// The parameters of a thread's channels, while it walks over its units: in registers, or in shared
// memory, which a thread of eight columns reads anew for each unit. Backward it has the sums of
// eight channels in registers, and five numbers of each would leave room for one block.
#pragma once
#include "cuda/channels.cuh"
#include "cuda/epilogue.cuh"

ONEPASS_BEGIN
namespace {
namespace normalise {

template <class T, int N>
struct InRegisters {
  Parameters<T> p[N];
  bool scaled = false;  // one of them is

  // load(channel) gives the parameters.
  template <int W, bool kColumns, class Call, class Load>
  ONEPASS_DEVICE void take(const Call&, const Share<W, kColumns>& share, Load load) {
    if (!share.active) return;
    ONEPASS_UNROLL
    for (int i = 0; i < N; ++i) {
      p[i] = load(share.channel(i));
      scaled = scaled || p[i].scales();
    }
  }
  // Those of a part of a unit, which are all.
  static constexpr int kPart = N;
  ONEPASS_DEVICE const InRegisters& part(int) const { return *this; }
};

// For columns that are channels: path_of gives those of odd planes no eight backward. Row by row as
// store_parameters has them; a row in halves, so that neighbouring threads read
// neighbouring packs.
template <class T, int W>
struct InShared {
  static constexpr int kPart = 16 / int(sizeof(T));
  struct Part {
    Parameters<T> p[kPart];
  };
  T* rows;
  int lanes, lane;
  bool scaled = false;

  // Every thread of the block calls it.
  template <class Call, class Load>
  ONEPASS_DEVICE void take(const Call& call, const Share<W, true>& share, Load load) {
    static_assert(kParameters * sizeof(T) <= 4 * sizeof(double), "fold_sums has less memory");
    rows = reinterpret_cast<T*>(columns_memory<W>());
    lanes = call.path.lanes;
    lane = int(threadIdx.x) % lanes;
    for (int i = int(threadIdx.x); i < lanes * W; i += kThreads) {
      const int64_t channel = share.start + (i - lane * W);
      if (channel >= share.channels) break;
      const Parameters<T> p = load(channel);
      const T values[kParameters] = {p.mean,  p.rstd,  p.scale,   p.shift,
                                     p.level, p.slope, p.x_scale, p.g_scale};
      ONEPASS_UNROLL
      for (int row = 0; row < kParameters; ++row)
        rows[place(row, i % W / kPart, i / W) + i % kPart] = values[row];
    }
    block_sync();
    ONEPASS_UNROLL
    for (int w = 0; w < W && share.active; ++w)
      scaled = scaled || value(6, w) != T(1) || value(7, w) != T(1);
  }
  ONEPASS_DEVICE Part part(int i) const {
    Pack<T> row[6];
    ONEPASS_UNROLL
    for (int r = 0; r < 6; ++r)
      row[r] = *reinterpret_cast<const Pack<T>*>(rows + place(r, i, lane));
    Part own;
    ONEPASS_UNROLL
    for (int w = 0; w < kPart; ++w) {
      own.p[w] = {row[0][w], row[1][w], row[2][w], row[3][w], row[4][w], row[5][w], T(1), T(1)};
      if (scaled) {
        own.p[w].x_scale = value(6, i * kPart + w);
        own.p[w].g_scale = value(7, i * kPart + w);
      }
    }
    return own;
  }

 private:
  ONEPASS_DEVICE int place(int row, int half, int of_lane) const {
    return ((row * (W / kPart) + half) * lanes + of_lane) * kPart;
  }
  ONEPASS_DEVICE T value(int row, int w) const {
    return rows[place(row, w / kPart, lane) + w % kPart];
  }
};

template <class T, int W, bool kColumns, bool kForward, class Call>
using OwnParameters = std::conditional_t<kColumns && W == 8 && !kForward && Call::is_norm,
                                         InShared<T, W>, InRegisters<T, kColumns ? W : 1>>;

}  // namespace normalise
}  // namespace
ONEPASS_END
