// A list of tensors in the form that a kernel reads, and the search of warps for their work in it.
//
// Every tensor is cut into tiles, which never cross a tensor; one warp does a tile. The table is
// one block of bytes: entries, a last one with only the number of tiles, rows of functors or
// hyper-parameters, numbers of counters, then shapes and strides of tensors that are not dense. It
// is a kernel argument if it fits; otherwise small kernels write it into the workspace. So it needs
// no copy and no allocation, and is legal in a graph.
#pragma once
#include <string.h>

#include <vector>

#include "core/codes.h"
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
};

// ---- the argument of a kernel: the table, or its address

template <int64_t kSize>
struct Table {
  static constexpr int64_t kBytes = kSize;
  const unsigned char* elsewhere;  // null: here
  alignas(16) unsigned char bytes[kSize];
  ONEPASS_HD const unsigned char* data() const { return elsewhere ? elsewhere : bytes; }
};

template <int64_t kSize>
__global__ void __launch_bounds__(kThreads, 2)
    write_table(unsigned char* to, const __grid_constant__ Table<kSize> from, int32_t bytes) {
  auto* words = reinterpret_cast<uint64_t*>(to);
  for (int32_t i = int32_t(threadIdx.x); i < bytes / 8; i += kThreads)
    words[i] = reinterpret_cast<const uint64_t*>(from.bytes)[i];
}

// The tiles of a block are neighbours and its warps take them in turn. A warp searches its first
// entry, then follows the list, and keeps the entry in registers: stores might change the table,
// and its lines leave the cache.
template <int kArity>
class TileWalk {
 public:
  ONEPASS_DEVICE TileWalk(const TableShape& shape, const unsigned char* table)
      : entries_(reinterpret_cast<const Entry<kArity>*>(table)), size_(shape.tile) {
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
  // Where operand o is, read from the table: an index into registers would take local memory.
  ONEPASS_DEVICE char* data(int o) const { return entries_[place_].data[o]; }
  // First element of the tile; below 0 if the tensor has a lead.
  ONEPASS_DEVICE int64_t begin() const {
    return int64_t(tile_ - entry_.first_tile) * size_ - entry_.lead;
  }

 private:
  ONEPASS_DEVICE void load() {
    entry_ = entries_[place_];
    until_ = entries_[place_ + 1].first_tile;
    is_new_ = true;
  }
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
    } else {  // a quarter of the instructions
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

// ---- made on the host

// Whether the computing type of a tensor is T and the tensor is not empty.
template <class T>
bool has_any(const Tensor* tensors, int64_t count) {
  for (int64_t t = 0; t < count; ++t)
    if (tensors[t].size > 0 && (tensors[t].computing == DType::f64) == (sizeof(T) == 8))
      return true;
  return false;
}

// The most bytes that `count` tensors of a call need, each with a counter and its row.
inline int64_t table_bound(const Tensor* tensors, int64_t count, int64_t entry_bytes, int64_t arity,
                           int64_t row_bytes, int64_t rows) {
  int64_t bytes = (count + 1) * entry_bytes + rows * row_bytes + 8 * count + 64;
  for (int64_t t = 0; t < count; ++t) bytes += (1 + arity) * tensors[t].ndim * 8;
  return ceil_div(bytes, 16) * 16;
}

// The table of the tensors [first, …) with the given computing type, until `limit` bytes are full.
template <class T, int kArity>
class TableBuilder {
 public:
  // narrow: the kernel has a path for units of eight 16-bit elements.
  explicit TableBuilder(bool keep_order, bool narrow = true)
      : keep_order_(keep_order), narrow_(narrow && sizeof(T) == 4) {}

  // Returns the first tensor that did not fit, or count. number_of(tensor, its place in the list).
  template <class Operands, class Number>
  int64_t fill(const Tensor* tensors, int64_t first, int64_t count, int64_t limit,
               int64_t other_bytes, Operands operands_of, Number number_of) {
    entries_.clear();
    dims_.clear();
    shape_ = {};
    const auto belongs = [](const Tensor& tensor) {
      return tensor.size > 0 && (tensor.computing == DType::f64) == (sizeof(T) == 8);
    };
    int64_t elements = 0;
    bool coded = false;
    for (int64_t i = first; i < count; ++i) {
      if (!belongs(tensors[i])) continue;
      elements += tensors[i].size;
      for (int o = 0; o < kArity; ++o) coded = coded || is_coded(operands_of(tensors[i])[o].dtype);
    }
    // A draw gives bits for 32 elements a lane. A tile of codes is a block of them.
    if (coded || (!keep_order_ && elements < kManyElements)) shape_.tile = int32_t(kSmallTile);
    int64_t t = first;
    for (; t < count; ++t) {
      const Tensor& tensor = tensors[t];
      if (!belongs(tensor)) continue;
      const int64_t more = int64_t(sizeof(Entry<kArity>)) + (1 + kArity) * tensor.ndim * 8;
      if (!entries_.empty() && size() + more + other_bytes + 64 > limit) break;
      add(tensor, operands_of(tensor), int32_t(number_of(tensor, t)));
    }
    return t;
  }
  bool empty() const { return entries_.empty(); }

  // The whole table as bytes, ready to copy.
  template <class R>
  const std::vector<unsigned char>& finish(const std::vector<R>& rows,
                                           const std::vector<int32_t>& counters) {
    // A warp may step beyond the last tile, by less than a block's warps.
    if (shape_.tiles > INT32_MAX - kWarps) {
      record_error("a call has more than 2^39 elements: split it");
      shape_.tiles = 0;
    }
    shape_.entries = int32_t(entries_.size());
    Entry<kArity> last{};
    last.first_tile = int32_t(shape_.tiles);
    entries_.push_back(last);
    const int64_t entry_bytes = int64_t(entries_.size() * sizeof(Entry<kArity>));
    const auto row_bytes = int64_t(rows.size() * sizeof(R));
    shape_.rows = int32_t(ceil_div(entry_bytes, 16) * 16);
    shape_.counters = int32_t(ceil_div(shape_.rows + row_bytes, 8) * 8);
    shape_.counter_count = int32_t(counters.size());
    const int64_t dims_at = ceil_div(shape_.counters + 4 * int64_t(counters.size()), 8) * 8;
    for (Entry<kArity>& e : entries_)
      if (e.dims) e.dims += dims_at - 8;
    bytes_.assign(size_t(ceil_div(dims_at + int64_t(dims_.size()) * 8, 16) * 16), 0);
    memcpy(bytes_.data(), entries_.data(), size_t(entry_bytes));
    copy(shape_.rows, rows);
    copy(shape_.counters, counters);
    copy(dims_at, dims_);
    return bytes_;
  }
  const TableShape& shape() const { return shape_; }

 private:
  template <class V>
  void copy(int64_t at, const std::vector<V>& values) {
    if (!values.empty()) memcpy(bytes_.data() + at, values.data(), values.size() * sizeof(V));
  }
  int64_t size() const {
    return int64_t((entries_.size() + 1) * sizeof(Entry<kArity>) + dims_.size() * 8);
  }
  void add(const Tensor& tensor, const Operand* operands, int32_t number) {
    Entry<kArity> e{};
    e.first_tile = int32_t(shape_.tiles);
    e.size = tensor.size;
    e.row = tensor.hyper_set;
    e.number = number;
    e.has_rows = tensor.rows > 0;
    bool dense = true, narrow = narrow_;
    for (int o = 0; o < kArity; ++o) {
      e.data[o] = static_cast<char*>(operands[o].data);
      e.dtypes |= uint32_t(operands[o].dtype) << (4 * o);
      dense = dense && !operands[o].strides;
      if (operands[o].data && !is_coded(operands[o].dtype))
        narrow = narrow && size_of(operands[o].dtype) == 2;
    }
    if (dense) {
      choose_path(&e, narrow);
    } else {
      e.path = Path::elements;
      e.ndim = tensor.ndim;
      e.dims = int64_t(dims_.size()) * 8 + 8;  // finish() knows where they begin
      shape_.strided = true;
      dims_.insert(dims_.end(), tensor.shape, tensor.shape + tensor.ndim);
      for (int o = 0; o < kArity; ++o) add_strides(tensor, operands[o]);
    }
    shape_.tiles += ceil_div(tensor.size + e.lead, int64_t(shape_.tile));
    entries_.push_back(e);
  }
  void choose_path(Entry<kArity>* e, bool narrow) const {
    const int width = narrow ? 8 : kUnit<T>;
    e->path = narrow ? Path::narrow_units : Path::units;
    bool coded = false;
    for (int o = 0; o < kArity; ++o) {
      coded = coded || is_coded(e->dtype(o));
      // Null: a stage's operand that this tensor lacks. Codes are read by decode_block.
      if (!e->data[o] || is_coded(e->dtype(o))) continue;
      const int64_t size = size_of(e->dtype(o));
      const auto beyond =
          int64_t(reinterpret_cast<uintptr_t>(e->data[o]) % uintptr_t(width * size));
      if (o == 0) e->lead = int16_t(beyond / size);
      if (beyond / size != e->lead) e->path = Path::elements;
    }
    // A draw gives bits for 32 elements, counted from the first; a block of codes begins there.
    if ((keep_order_ || coded) && e->lead) e->path = Path::elements;
    if (e->path == Path::elements) e->lead = 0;
  }
  void add_strides(const Tensor& tensor, const Operand& operand) {
    const size_t at = dims_.size();
    dims_.resize(at + size_t(tensor.ndim));
    int64_t stride = 1;
    for (int d = tensor.ndim - 1; d >= 0; --d) {
      dims_[at + size_t(d)] = operand.strides ? operand.strides[d] : stride;
      stride *= tensor.shape[d];
    }
  }

  const bool keep_order_, narrow_;
  TableShape shape_{};
  std::vector<Entry<kArity>> entries_;
  std::vector<int64_t> dims_;
  std::vector<unsigned char> bytes_;
};

// Calls `run(kernel argument)` with the table in the smallest place that holds it: a small
// argument, a large one (kLarge: that kernel exists), or the workspace.
template <int64_t kBytes, class Run>
void with_inline_table(const std::vector<unsigned char>& bytes, Run run) {
  Table<kBytes> table;
  table.elsewhere = nullptr;
  memcpy(table.bytes, bytes.data(), bytes.size());
  run(table);
}
template <int64_t kSize>
void write_slice(unsigned char* to, const std::vector<unsigned char>& bytes, int64_t at,
                 cudaStream_t stream) {
  const int64_t n = smaller(kSize, int64_t(bytes.size()) - at);
  Table<kSize> slice;
  slice.elsewhere = nullptr;
  memcpy(slice.bytes, bytes.data() + at, size_t(n));
  start(&write_table<kSize>, 1, stream, to, slice, int32_t(n));
}
template <bool kLarge, class Run>
void with_table(const std::vector<unsigned char>& bytes, void* workspace, cudaStream_t stream,
                Run run) {
  const auto size = int64_t(bytes.size());
  if (size <= kSmallTable) return with_inline_table<kSmallTable>(bytes, run);
  if constexpr (kLarge)
    if (size <= kLargeTable) return with_inline_table<kLargeTable>(bytes, run);
  if (!workspace) return record_error("a long list of tensors needs a workspace");
  auto* to = static_cast<unsigned char*>(workspace);
  int64_t at = 0;
  for (; size - at > kSmallTable; at += kLargeTable)
    write_slice<kLargeTable>(to + at, bytes, at, stream);
  if (at < size) write_slice<kSmallTable>(to + at, bytes, at, stream);
  Table<kSmallTable> table;
  table.elsewhere = to;
  run(table);
}

}  // namespace
ONEPASS_END
