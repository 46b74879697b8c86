// Cuts a call of the normalise driver into regions, rows × units, by size alone. normalise.h
// explains why.
#pragma once
#include "core/backend.h"
#include "cpu/dense.h"
#include "cpu/norm_sizes.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

constexpr int64_t kNarrow = 512;     // narrower rows are taken several as one
constexpr int64_t kPlanes = 16;      // the same where a unit is a plane
constexpr int64_t kLongPlane = 512;  // planes at least this long are units
constexpr int64_t kRegionBytes = 512 << 10;
constexpr int64_t kRegionElements = 64 << 10;
constexpr int64_t kTasksWanted = 16;
constexpr int64_t kGroup = 256;  // units whose statistics are finished at once

// How a call is cut. Unit u of a row belongs to channel (u / spread) % channels.
struct Cut {
  int64_t channels, spread, repeat;
  int64_t unit;                 // elements of a unit
  int64_t units;                // units of a row
  int64_t rows, tail;           // full rows; units of one more, shorter row
  int64_t blocks, block_rows;   // along rows
  int64_t strips, strip_units;  // along units, never through a channel

  bool planes() const { return unit > 1; }
  int64_t regions() const { return blocks * strips; }
  void one_block() {
    blocks = 1;
    block_rows = rows;
  }
};

Cut cut_planes(const Channelwise& call, int64_t bytes_per_element) {
  Cut cut{call.channels, 1, 1, call.inner, call.channels, call.outer, 0, 1, call.outer, 1, 1};
  const int64_t channel_bytes = call.outer * call.inner * bytes_per_element;
  cut.strip_units = larger(1, smaller(kRegionBytes / channel_bytes, kPlanes));
  cut.strip_units = smaller(cut.strip_units, ceil_div(call.channels, kTasksWanted / 2));
  cut.strips = ceil_div(cut.units, cut.strip_units);
  const int64_t most = call.outer * call.channels * call.inner / kRegionElements;
  if (cut.strips < kTasksWanted / 2 && most > cut.strips) {
    const int64_t blocks = smaller(ceil_div(kTasksWanted, cut.strips), most);
    cut.block_rows = ceil_div(cut.rows, blocks);
    cut.blocks = ceil_div(cut.rows, cut.block_rows);
  }
  return cut;
}

Cut cut_columns(const Channelwise& call) {
  const int64_t width = call.channels * call.inner;
  const int64_t repeat = larger(1, smaller(kNarrow / width, call.outer / kAdded));
  Cut cut{call.channels, call.inner, repeat, 1, width * repeat, 0, 0, 1, 0, 1, 0};
  cut.rows = call.outer / repeat;
  cut.tail = call.outer % repeat * width;
  cut.one_block();
  cut.strip_units = repeat > 1 ? cut.units : larger(1, kUnits / call.inner) * call.inner;
  cut.strip_units = smaller(cut.strip_units, cut.units);
  cut.strips = ceil_div(cut.units, cut.strip_units);
  if (cut.strips < kTasksWanted / 2) {
    const int64_t rows = larger(larger(kRegionElements / cut.units, cut.rows / 64), 1);
    cut.block_rows = round_up(rows, kAdded);
    cut.blocks = larger(1, ceil_div(cut.rows, cut.block_rows));
  }
  return cut;
}

// Rows [row, row_end) × units [unit, unit_end).
struct Region {
  int64_t block, row, row_end, unit, unit_end;
  int64_t units() const { return unit_end - unit; }
};
ONEPASS_HD Region region_of(const Cut& cut, int64_t index) {
  const int64_t block = index / cut.strips, strip = index % cut.strips;
  Region r{block, block * cut.block_rows, 0, strip * cut.strip_units, 0};
  r.row_end = smaller(r.row + cut.block_rows, cut.rows);
  if (block == cut.blocks - 1 && cut.tail) r.row_end = cut.rows + 1;
  r.unit_end = smaller(r.unit + cut.strip_units, cut.units);
  return r;
}
// Strips again, in groups that leave the first-level cache room; their rows mean nothing.
ONEPASS_HD int64_t group_units(const Cut& cut) {
  if (cut.repeat > 1) return cut.units;
  return larger(1, kGroup / cut.spread) * cut.spread;
}
ONEPASS_HD int64_t channel_groups(const Cut& cut) { return ceil_div(cut.units, group_units(cut)); }
ONEPASS_HD Region channels_of(const Cut& cut, int64_t group) {
  const int64_t first = group * group_units(cut);
  return {0, 0, 0, first, smaller(first + group_units(cut), cut.units)};
}
// One past the last unit of a row that a region holds.
ONEPASS_HD int64_t unit_end_in_row(const Cut& cut, const Region& r, int64_t row) {
  return row < cut.rows ? r.unit_end : smaller(r.unit_end, cut.tail);
}
// The channels of a region; with repeat > 1 there is one strip, which has them all.
ONEPASS_HD int64_t first_channel(const Cut& cut, const Region& r) { return r.unit / cut.spread; }
ONEPASS_HD int64_t channel_count(const Cut& cut, const Region& r) {
  return r.units() / cut.spread / cut.repeat;
}

}  // namespace normalise
}  // namespace
ONEPASS_END
