// A list of tensors in the form that a kernel reads, and the search of warps for their work in it.
// The host makes it in table_builder.cuh.
//
// Every tensor is cut into tiles, which never cross a tensor; one warp does a tile. The table is
// one block of bytes: entries, a last one with only the number of tiles, numbers of counters,
// shapes and strides of tensors that are not dense, then rows of functors or hyper-parameters. It
// is a kernel argument if it fits; otherwise small kernels write it into the workspace. So it needs
// no copy and no allocation, and is legal in a graph.
//
// A caller may keep a workspace from one call to the next (KeptTable). What seldom changes is then
// written once, and the rest comes with each launch: the rows and, if there is room, the addresses
// of one operand.
#pragma once
#include "cuda/dropout_bits.cuh"
#include "cuda/folds.cuh"
#include "cuda/launch.cuh"

ONEPASS_BEGIN
namespace {

// Elements of a tile: a warp's 32 words of dropout bits. Lists with few tiles for each warp have
// smaller ones, so that all warps end together.
constexpr int64_t kTile = 1024, kSmallTile = 256;
constexpr int64_t kManyElements = 16 << 20;
constexpr int64_t kSmallTable = 3840;  // with the other arguments below 4 KiB
// Addresses of 4,000 tensors. What is called less often, or with longer lists, has kernels with
// this argument alone: of both sizes a package would have twice as many.
constexpr int64_t kLargeTable = 32256;

// How a warp moves the elements of a tensor.
enum class Path : int32_t {
  units,         // all operands dense and aligned alike: kUnit<T> at a time
  narrow_units,  // the same, all of 16 bits: 8 at a time
  elements       // one by one, neighbours by neighbouring lanes
};

template <int kArity>
struct Entry {
  static_assert(kArity * 4 <= 32, "dtypes has no room");
  int64_t size;
  char* data[kArity];
  int64_t dims;  // offset in bytes of shape and strides in the table; 0: dense
  int32_t first_tile;
  int32_t row;      // of functors or hyper-parameters
  int32_t number;   // the driver's own
  uint32_t dtypes;  // 4 bits each
  int32_t ndim;
  int16_t lead;   // units start this many elements before the first, so that they are aligned
  bool has_rows;  // Tensor::rows is not 0
  Path path;

  ONEPASS_HD DType dtype(int o) const { return DType(dtypes >> (4 * o) & 15); }
  ONEPASS_HD Memory operand(int o) const { return {data[o], dtype(o)}; }
};

struct TableShape {
  int64_t tiles = 0;
  int32_t tile = int32_t(kTile);  // elements
  int32_t entries = 0;
  int32_t rows = 0, counters = 0;  // offsets in bytes
  int32_t counter_count = 0;
  bool strided = false;  // an entry has shape and strides
  bool apart = false;    // the rows come with the launch,
  bool moves = false;    // and so do the addresses of one operand
};

// The parts of a table. Each is found anew from the kernel's arguments: to keep them would take
// registers.
struct TableView {
  const unsigned char *here, *elsewhere;
  const TableShape& shape;

  ONEPASS_HD const unsigned char* fixed() const { return elsewhere ? elsewhere : here; }
  ONEPASS_HD const unsigned char* rows() const {
    return (shape.apart ? here : fixed()) + shape.rows;
  }
  // Of one operand of each entry; null: the entries have them.
  ONEPASS_HD char* const* addresses() const {
    return shape.moves ? reinterpret_cast<char* const*>(here) : nullptr;
  }
};

// The argument of a kernel: the table, or its address.
template <int64_t kSize>
struct Table {
  static constexpr int64_t kBytes = kSize;
  const unsigned char* elsewhere;  // null: here
  alignas(16) unsigned char bytes[kSize];
  ONEPASS_HD TableView view(const TableShape& shape) const { return {bytes, elsewhere, shape}; }
};

// The tiles of a block are neighbours and its warps take them in turn. A warp searches its first
// entry, then follows the list, and keeps the entry in registers: stores might change the table,
// and its lines leave the cache. kMoving: the operand whose addresses may come with the launch.
template <int kArity, int kMoving = -1>
class TileWalk {
 public:
  ONEPASS_DEVICE TileWalk(const TableShape& shape, const TableView& table)
      : table_(table),
        entries_(reinterpret_cast<const Entry<kArity>*>(table.fixed())),
        size_(shape.tile) {
    tile_ = int32_t(shape.tiles * blockIdx.x / gridDim.x) + warp_of(threadIdx.x);
    end_ = int32_t(shape.tiles * (int64_t(blockIdx.x) + 1) / gridDim.x);
    int32_t low = 0, high = shape.entries;  // the tile is in [low, high)
    while (high - low > 1) {
      const int32_t middle = (low + high) / 2;
      (entries_[middle].first_tile <= tile_ ? low : high) = middle;
    }
    place_ = low;
    if (tile_ < end_) load();
  }
  ONEPASS_DEVICE bool has_tile() const { return tile_ < end_; }
  ONEPASS_DEVICE void next() {
    tile_ += kWarps;
    is_new_ = false;
    if (tile_ < until_ || tile_ >= end_) return;
    while (tile_ >= entries_[place_ + 1].first_tile) ++place_;
    load();
  }
  // Whether this is the first tile of its tensor for this warp.
  ONEPASS_DEVICE bool is_new() const { return is_new_; }
  ONEPASS_DEVICE const Entry<kArity>& entry() const { return entry_; }
  // Where operand o, which does not move, is: read from the table: an index into registers would
  // take local memory.
  ONEPASS_DEVICE char* data(int o) const { return entries_[place_].data[o]; }
  // First element of the tile; below 0 if the tensor has a lead.
  ONEPASS_DEVICE int64_t begin() const {
    return int64_t(tile_ - entry_.first_tile) * size_ - entry_.lead;
  }

 private:
  ONEPASS_DEVICE void load() {
    entry_ = entries_[place_];
    if constexpr (kMoving >= 0)
      if (auto* const addresses = table_.addresses()) entry_.data[kMoving] = addresses[place_];
    until_ = entries_[place_ + 1].first_tile;
    is_new_ = true;
  }
  const TableView& table_;
  const Entry<kArity>* entries_;
  Entry<kArity> entry_;
  int32_t tile_, end_, until_;  // until_: the first tile of the next entry
  int32_t size_, place_;
  bool is_new_ = true;
};

// Offsets of element `at` in each operand, in elements. Dense kernels (kStrided is false) have no
// need of the divisions below, and of their registers.
template <bool kStrided, int kArity>
ONEPASS_DEVICE void offsets_of(const Entry<kArity>& entry, const unsigned char* table, int64_t at,
                               int64_t* offset) {
  const bool dense = !kStrided || !entry.dims;
  ONEPASS_UNROLL
  for (int o = 0; o < kArity; ++o) offset[o] = dense ? at : 0;
  if (dense) return;
  const int64_t* shape = reinterpret_cast<const int64_t*>(table + entry.dims);
  for (int d = entry.ndim - 1; d >= 0; --d) {
    int64_t index;
    if ((at | shape[d]) >> 32) {
      index = at % shape[d];
      at /= shape[d];
    } else {  // a quarter of the instructions; `divide` would take four registers more
      index = uint32_t(at) % uint32_t(shape[d]);
      at = uint32_t(at) / uint32_t(shape[d]);
    }
    ONEPASS_UNROLL
    for (int o = 0; o < kArity; ++o) offset[o] += index * shape[(1 + o) * entry.ndim + d];
  }
}

// The elements of a tile outside its whole units: those before the first one (i = 0) and after the
// last (i = 1); all elements if there are no units.
struct Range {
  int64_t from, to;
};
template <class T, int kArity>
ONEPASS_DEVICE Range rest_of_tile(const Entry<kArity>& entry, int64_t begin, int tile, int i) {
  const int64_t from = larger(begin, 0), to = smaller(begin + tile, entry.size);
  if (entry.path == Path::elements) return i == 0 ? Range{from, to} : Range{to, to};
  const int64_t width = entry.path == Path::units ? kUnit<T> : 8;
  const int64_t whole = begin < 0 ? begin + width : begin;
  const int64_t head = smaller(whole, to);
  if (i == 0) return {from, head};
  return {larger(head, to - (to - begin) % width), to};
}

}  // namespace
ONEPASS_END
