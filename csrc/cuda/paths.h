// Cuts a per-channel call into blocks by its shape alone, so that every run and every device adds
// sums in the same order.
#pragma once
#include <cstdint>

namespace onepass {
namespace cuda {

struct BatchNormPath {
  bool columns;          // every row holds one element of each channel (inner = 1), else planes
  bool whole;            // one kernel: a block does all for its channels; else sums, finish, apply
  int32_t width;         // elements a thread moves at once
  int32_t lanes;         // columns: threads side by side, each with `width` channels
  int64_t groups;        // of channels; planes: one channel each
  int64_t splits;        // blocks that share the sums of a group
  int64_t apply_splits;  // and those that share the applying: more, for an even end
};

// `unit` is the number of elements that a thread could move at once, 1 if the arrays are not
// aligned.
inline BatchNormPath batch_norm_path(int64_t outer, int64_t channels, int64_t inner, int32_t unit) {
  constexpr int64_t kBlocks = 1056;  // eight for each multiprocessor of an H200
  constexpr int64_t kLeast = 4096;   // the least elements for one block
  constexpr int64_t kApplyBlocks = 4224, kApplyLeast = 16384;
  constexpr int64_t kWholeFew = 16384;    // elements of a group up to which one block is as fast
  constexpr int64_t kWholeMany = 131072;  // the same if there are groups for all processors
  constexpr int64_t kMany = 128;
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  BatchNormPath path{inner == 1, false, unit, 1, channels, 1, 1};
  if ((path.columns ? channels : inner) % unit != 0) path.width = 1;
  int64_t members = 1;
  if (path.columns) {
    const int64_t wanted = ceil_div(channels, path.width);
    path.lanes = int32_t(wanted < 32 ? wanted : 32);
    members = int64_t(path.lanes) * path.width;
    path.groups = ceil_div(channels, members);
  }
  const int64_t share = outer * inner * members;  // elements of a group
  path.whole = share <= (path.groups >= kMany ? kWholeMany : kWholeFew);
  if (!path.whole) {
    const int64_t wanted = ceil_div(kBlocks, path.groups), most = ceil_div(share, kLeast);
    path.splits = wanted < most ? wanted : most;
  }
  if (share > 0 && path.groups > 0) {
    const int64_t wanted = ceil_div(kApplyBlocks, path.groups), most = ceil_div(share, kApplyLeast);
    path.apply_splits = wanted < most ? wanted : most;
  }
  return path;
}

}  // namespace cuda
}  // namespace onepass
