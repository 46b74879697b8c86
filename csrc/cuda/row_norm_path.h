// Cuts a norm over rows into threads and blocks, by its shape, dtype and alignment, so that every
// run and every device adds sums in the same order.
#pragma once
#include <cstdint>

namespace onepass {
namespace cuda {

// The most threads that share a held row, and the elements that each of them holds: as many as
// registers take beside the sums of columns, and twice as many forward, where there are none.
constexpr int most_row_lanes(bool is_double) { return is_double ? 256 : 512; }
constexpr int held_elements(int width) { return width >= 4 ? 8 : 4; }
// Forward, in units of four elements or more: what is in flight decides.
constexpr int many_held_elements(int width) { return width >= 8 ? 32 : 16; }

struct RowPath {
  // Held: the threads of a row keep it in registers. Else whole: one block, or one warp, walks over
  // its row twice; or, for few long rows, split: many blocks add, a small kernel finishes the rows,
  // many blocks apply.
  bool held, whole;
  bool by_warps;  // whole: a row is a warp's
  int32_t width;  // elements a thread moves at once
  int32_t kept;   // held: elements of a thread
  int32_t lanes;  // threads that share a held row, or a piece
  // Sums of any other row are added piece by piece: `splits` pieces of the row, or of each of its
  // channels where those have weights of their own to be summed for.
  int64_t pieces, splits;
  int64_t apply_splits;  // blocks that share the applying of a row
  int64_t parts;         // of outer, each with sums of columns of its own
};

// `unit` is the number of elements that a thread could move at once, 1 if the arrays are not
// aligned; `walked_unit` the same for rows that are not held.
inline RowPath row_norm_path(int64_t outer, int64_t groups, int64_t channels, int64_t inner,
                             int32_t unit, int32_t walked_unit, bool is_double, bool backward) {
  constexpr int64_t kFewLanes = 32;     // beyond which a thread holds more
  constexpr int64_t kBlocks = 264;      // blocks that add up columns, two a multiprocessor
  constexpr int64_t kLeastRows = 4;     // of a block, for each row that it adds at once
  constexpr int64_t kWarpRow = 2048;    // elements up to which a row that is not held is a warp's
  constexpr int64_t kWholeRows = 264;   // rows from which on each is one block's
  constexpr int64_t kWholeRow = 16384;  // elements up to which it is in any case
  constexpr int64_t kLeastPiece = 1024, kSplitPiece = 4096;
  constexpr int64_t kApplyBlocks = 2112, kApplyLeast = 8192;
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const auto clamp = [](int64_t v, int64_t low, int64_t high) {
    return v < low ? low : v > high ? high : v;
  };
  const int64_t length = channels * inner, rows = outer * groups;
  RowPath path{};
  path.width = walked_unit;
  path.splits = path.pieces = path.apply_splits = path.parts = 1;
  path.lanes = 1;
  const bool by_columns = backward && inner == 1;  // neighbours have weights of their own
  const int32_t held_width = length % unit == 0 ? unit : 1;
  const int32_t few = held_elements(held_width);
  const bool many = !backward && held_width >= 4 && length > kFewLanes * few;
  path.kept = many ? many_held_elements(held_width) : few;
  path.held = backward ? by_columns && length <= most_row_lanes(is_double) * few
                       : length <= most_row_lanes(is_double) * path.kept;
  if (path.held) {
    path.width = held_width;
    while (path.lanes * path.kept < length) path.lanes *= 2;
    const int64_t at_once = path.lanes < 256 ? 256 / path.lanes : 1;
    path.parts = clamp(ceil_div(kBlocks, groups > 0 ? groups : 1), 1,
                       clamp(outer / (at_once * kLeastRows), 1, kBlocks));
    return path;
  }
  if ((inner == 1 ? length : inner) % walked_unit != 0) path.width = 1;
  path.by_warps = length <= kWarpRow;
  path.whole = rows >= kWholeRows || length <= kWholeRow;
  const int64_t planes = backward && !by_columns ? channels : 1, plane = length / planes;
  const int64_t wanted = path.by_warps ? 1 : path.whole ? 8 : ceil_div(8 * kBlocks, rows);
  path.splits =
      clamp(ceil_div(wanted, planes), 1, ceil_div(plane, path.whole ? kLeastPiece : kSplitPiece));
  path.pieces = planes * path.splits;
  while (path.lanes < 32 && path.lanes * path.width * path.splits < plane) path.lanes *= 2;
  if (!path.whole)
    path.apply_splits = clamp(ceil_div(kApplyBlocks, rows), 1, ceil_div(length, kApplyLeast));
  path.parts = clamp(ceil_div(4 * kBlocks, groups * ceil_div(length, 256 * path.width)), 1,
                     clamp(outer / kLeastRows, 1, kBlocks));
  return path;
}

}  // namespace cuda
}  // namespace onepass
