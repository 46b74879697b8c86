// Cuts a per-channel call into blocks by its shape alone, so that every run and every device adds
// sums in the same order.
#pragma once
#include <cstdint>

namespace onepass {
namespace cuda {

struct ChannelPath {
  // Columns: an outer row's elements side by side, each thread with the same few in every row. So
  // lie channels whose elements are a row apart (inner = 1), and planes too small and odd for
  // units, of which some together are a whole number of units. Else planes: a block has one
  // channel's.
  bool columns;
  bool whole;  // one kernel: a block, or a cluster, does all for its channels; else sums, finish,
               // apply
  int32_t width;         // elements a thread moves at once
  int32_t lanes;         // columns: threads side by side, each with `width` of them
  int64_t groups;        // of columns; planes: one channel each
  int64_t splits;        // blocks that share the sums of a group
  int64_t apply_splits;  // and those that share the applying: more, for an even end
  int32_t kept;          // units of each thread that a whole block keeps from the sums on
  int32_t cluster;       // whole: the blocks that share a group, as many as splits
};

// What the second walk needs again of each element: so many arrays, of `size` bytes an element.
struct Kept {
  int32_t arrays, size;
};

// normalise.cuh asserts that its kernels are as these numbers say.
constexpr int64_t kPathThreads = 256;  // of a block
constexpr int64_t kPathCluster = 8;    // the most blocks of a cluster
constexpr int64_t kColumnLanes = 32;   // the most threads side by side, where columns are channels

// The shared memory of a whole block for its sums: of columns two doubles for each thread and
// element of a unit, and two for each column.
inline int64_t sums_bytes(const ChannelPath& path) {
  return 1024 + (path.columns ? path.width * 16 * (kPathThreads + kColumnLanes) : 0);
}

// How many units, of `bytes` each, every thread of a block that does everything can keep in shared
// memory, of which a block may have `limit` bytes. The rest it reads again: from memory, or from
// the cache.
inline int32_t kept_units(const ChannelPath& path, int64_t outer, int64_t inner, int64_t bytes,
                          int64_t limit) {
  const int64_t own = sums_bytes(path);
  if (!path.whole || path.width == 1 || path.groups == 0) return 0;
  const int64_t rows = path.columns ? kPathThreads / path.lanes : kPathThreads;
  const int64_t units = path.columns ? outer : outer * (inner / path.width);
  const int64_t share = (units + path.cluster - 1) / path.cluster;
  const int64_t each = (share + rows - 1) / rows, room = limit - own;
  if (room <= 0) return 0;
  // Two blocks of a processor hide each other's waits; one is better than to read again. A cluster
  // finds in the second-level cache what it does not hold.
  const int64_t most = room / (kPathThreads * bytes);
  const int64_t half = (limit / 2 - own) / (kPathThreads * bytes);
  if (each <= most) return int32_t(each);
  return int32_t(path.cluster > 1 ? most : half > 0 ? half : 0);
}

constexpr int64_t kSmallPlane = 128;  // and so the most threads side by side

// Gives each group that a block cannot hold to a cluster of blocks which hold it together. On a
// device without clusters as many blocks share the sums: the bits are the same.
inline void choose_cluster(int64_t outer, int64_t channels, int64_t inner, const Kept& kept,
                           ChannelPath* path) {
  constexpr int64_t kTwoHold = 113 << 10;    // bytes of each, where two share a processor
  constexpr int64_t kOneHolds = 227 << 10;   // where one has it
  constexpr int64_t kPlaneMost = 400 << 10;  // and where part of a plane is read again
  constexpr int64_t kRow = 64;               // bytes side by side: fewer are moved as slowly
  constexpr int64_t kFewBlocks = 128, kBlocks = 264, kLeast = 2048;
  if (path->width == 1 || kept.arrays == 0) return;
  const int64_t two = kTwoHold - sums_bytes(*path), one = kOneHolds - sums_bytes(*path);
  const int64_t most = path->columns ? one : kPlaneMost;
  int64_t lanes = path->lanes;
  const auto groups = [&] {
    const int64_t together = lanes * path->width;
    return path->columns ? (channels * inner + together - 1) / together : channels;
  };
  const auto share = [&] { return path->columns ? outer * lanes * path->width : outer * inner; };
  const auto bytes = [&] { return share() * kept.arrays * kept.size; };
  if (path->whole && bytes() <= one) return;
  while (inner == 1 && lanes % 2 == 0 && lanes * path->width * kept.size > kRow &&
         (bytes() > kPathCluster * most || groups() * kPathCluster < kFewBlocks))
    lanes /= 2;
  int64_t blocks = 2;
  while (blocks < kPathCluster && (bytes() > blocks * two || groups() * blocks < kFewBlocks ||
                                   (groups() * blocks < kBlocks && share() > 2 * blocks * kLeast)))
    blocks *= 2;
  if (bytes() > blocks * most || groups() * blocks < kFewBlocks) return;
  path->whole = true;
  path->lanes = int32_t(lanes);
  path->groups = groups();
  path->splits = path->cluster = int32_t(blocks);
}

// `unit` is the number of elements that a thread could move at once, 1 if the arrays are not
// aligned.
inline ChannelPath path_of_unit(int64_t outer, int64_t channels, int64_t inner, int32_t unit,
                                const Kept& kept) {
  constexpr int64_t kBlocks = 1056;  // eight for each multiprocessor of an H200
  constexpr int64_t kLeast = 4096;   // the least elements for one block
  constexpr int64_t kApplyBlocks = 4224, kApplyLeast = 16384;
  constexpr int64_t kWholeFew = 16384;    // elements of a group up to which one block is as fast
  constexpr int64_t kWholeMany = 131072;  // the same if there are groups for all processors
  constexpr int64_t kMany = 256;
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  ChannelPath path{inner == 1, false, unit, 1, channels, 1, 1, 0, 1};
  const int64_t columns = channels * inner;  // of a row
  const bool fits = (inner == 1 ? channels : inner) % unit == 0;
  if (!fits) {
    path.columns = inner == 1 || (inner <= kSmallPlane && columns % unit == 0);
    if (inner == 1 || !path.columns) path.width = 1;
  }
  int64_t share = outer * inner;  // elements of a group
  if (path.columns) {
    int64_t together = inner;  // columns of whole channels and whole units
    while (together % path.width != 0) together += inner;
    const int64_t wanted = ceil_div(columns, path.width);
    int64_t lanes = together / path.width;
    while (lanes * 2 <= kColumnLanes && lanes < wanted) lanes *= 2;
    if (inner == 1 && wanted < lanes) lanes = wanted;
    path.lanes = int32_t(lanes);
    path.groups = ceil_div(columns, lanes * path.width);
    share = outer * lanes * path.width;
  }
  path.whole = share <= (path.groups >= kMany ? kWholeMany : kWholeFew);
  if (!path.whole) {
    const int64_t wanted = ceil_div(kBlocks, path.groups), most = ceil_div(share, kLeast);
    path.splits = wanted < most ? wanted : most;
  }
  choose_cluster(outer, channels, inner, kept, &path);
  if (path.columns) share = outer * path.lanes * path.width;
  if (share > 0 && path.groups > 0) {
    const int64_t wanted = ceil_div(kApplyBlocks, path.groups), most = ceil_div(share, kApplyLeast);
    path.apply_splits = wanted < most ? wanted : most;
  }
  return path;
}

// `eight`: of 16 bits, and a thread could move 8 at once. It does so in planes and in columns. Not
// where narrower columns are few enough for one block, or one cluster, to do everything; and not in
// the columns of odd planes backward, of which a block would hold half as many.
inline ChannelPath channel_path(int64_t outer, int64_t channels, int64_t inner, int32_t unit,
                                bool eight, bool backward, const Kept& kept) {
  const ChannelPath usual = path_of_unit(outer, channels, inner, unit, kept);
  const bool planes = inner > 1 && inner % 8 == 0;
  const bool odd = inner > 1 && inner <= kSmallPlane && inner % unit != 0 && !backward;
  const bool columns = (inner == 1 || odd) && channels * inner % 8 == 0;
  if (!eight || !(planes || columns)) return usual;
  const ChannelPath wide = path_of_unit(outer, channels, inner, 8, kept);
  return usual.whole && !wide.whole ? usual : wide;
}

}  // namespace cuda
}  // namespace onepass
