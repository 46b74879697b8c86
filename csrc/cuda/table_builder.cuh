// Makes the table of a list of tensors (table.cuh) on the host, and puts it where a kernel reads
// it.
#pragma once
#include <string.h>

#include <vector>

#include "core/codes.h"
#include "core/kept_table.h"
#include "cuda/table.cuh"

ONEPASS_BEGIN
namespace {

// Whether the computing type of a tensor is T and the tensor is not empty.
template <class T>
bool has_any(const Tensor* tensors, int64_t count) {
  for (int64_t t = 0; t < count; ++t)
    if (tensors[t].size > 0 && (tensors[t].computing == DType::f64) == (sizeof(T) == 8))
      return true;
  return false;
}

// The most bytes that `count` tensors of a call need, each with a counter and its row, in one table
// or in two, of floats and of doubles.
inline int64_t table_bound(const Tensor* tensors, int64_t count, int64_t entry_bytes, int64_t arity,
                           int64_t row_bytes, int64_t rows) {
  int64_t bytes = (count + 2) * entry_bytes + 2 * rows * row_bytes + 8 * count + 128;
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
    shape_.counters = int32_t(ceil_div(entry_bytes, 16) * 16);
    shape_.counter_count = int32_t(counters.size());
    const int64_t dims_at = ceil_div(shape_.counters + 4 * int64_t(counters.size()), 8) * 8;
    for (Entry<kArity>& e : entries_)
      if (e.dims) e.dims += dims_at - 8;
    shape_.rows = int32_t(ceil_div(dims_at + int64_t(dims_.size()) * 8, 16) * 16);
    bytes_.assign(size_t(ceil_div(shape_.rows + row_bytes, 16) * 16), 0);
    memcpy(bytes_.data(), entries_.data(), size_t(entry_bytes));
    copy(shape_.rows, rows);
    copy(shape_.counters, counters);
    copy(dims_at, dims_);
    return bytes_;
  }
  const std::vector<unsigned char>& bytes() const { return bytes_; }
  const TableShape& shape() const { return shape_; }

  // The same in two parts, of which the second comes with a launch: rows, and with moving >= 0 the
  // addresses of that operand.
  struct Parts {
    std::vector<unsigned char> fixed, own;
    TableShape shape;
  };
  Parts parts(int moving) const {
    Parts p;
    p.shape = shape_;
    p.shape.apart = true;
    p.shape.moves = moving >= 0;
    const auto rows = bytes_.begin() + shape_.rows;
    p.fixed.assign(bytes_.begin(), rows);
    const int64_t addresses = p.shape.moves ? shape_.entries * int64_t(sizeof(char*)) : 0;
    p.shape.rows = int32_t(ceil_div(addresses, 16) * 16);
    p.own.assign(size_t(p.shape.rows), 0);
    p.own.insert(p.own.end(), rows, bytes_.end());
    for (int32_t e = 0; p.shape.moves && e < shape_.entries; ++e) {
      unsigned char* const address = p.fixed.data() + size_t(e) * sizeof(Entry<kArity>) +
                                     offsetof(Entry<kArity>, data) + size_t(moving) * sizeof(char*);
      memcpy(p.own.data() + size_t(e) * sizeof(char*), address, sizeof(char*));
      memset(address, 0, sizeof(char*));
    }
    return p;
  }

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

template <int64_t kSize>
__global__ void __launch_bounds__(kThreads, 2)
    write_table(unsigned char* to, const __grid_constant__ Table<kSize> from, int32_t bytes) {
  auto* words = reinterpret_cast<uint64_t*>(to);
  for (int32_t i = int32_t(threadIdx.x); i < bytes / 8; i += kThreads)
    words[i] = reinterpret_cast<const uint64_t*>(from.bytes)[i];
}

// Memory for tables that do not come with the launch: of the call, or kept.
struct TableRoom {
  unsigned char* at;       // null: there is none
  KeptTable* kept;         // what is in it; null: unknown
  KeptTable* beside;       // the other table of the same workspace
  unsigned char* another;  // for a table that may not be written there

  // Room for the table of tensors that are computed in T, `taken` bytes into the workspace.
  template <class T, class Call>
  static TableRoom of(const Call& call, int64_t taken) {
    const auto behind = [&](void* memory) {
      return memory ? static_cast<unsigned char*>(memory) + taken : nullptr;
    };
    constexpr int kOwn = sizeof(T) == 8;
    return {behind(call.workspace), call.tables ? call.tables + kOwn : nullptr,
            call.tables ? call.tables + (1 - kOwn) : nullptr, behind(call.spare)};
  }
};

template <int64_t kBytes, class Run>
void with_inline_table(const std::vector<unsigned char>& bytes, Run run,
                       const unsigned char* elsewhere = nullptr) {
  Table<kBytes> table;
  table.elsewhere = elsewhere;
  if (!bytes.empty()) memcpy(table.bytes, bytes.data(), bytes.size());
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
inline void write_changes(unsigned char* to, const std::vector<unsigned char>& held,
                          const std::vector<unsigned char>& bytes, cudaStream_t stream) {
  const auto size = int64_t(bytes.size());
  for (int64_t at = 0; at < size;) {
    const bool large = size - at > kSmallTable;
    const int64_t n = smaller(large ? kLargeTable : kSmallTable, size - at);
    if (int64_t(held.size()) < at + n ||
        memcmp(held.data() + at, bytes.data() + at, size_t(n)) != 0)
      large ? write_slice<kLargeTable>(to + at, bytes, at, stream)
            : write_slice<kSmallTable>(to + at, bytes, at, stream);
    at += n;
  }
}
// Where the bytes are; writes what is not there yet.
inline const unsigned char* brought_up_to_date(const TableRoom& room,
                                               const std::vector<unsigned char>& bytes,
                                               cudaStream_t stream) {
  if (!room.kept) {
    write_changes(room.at, {}, bytes, stream);
    return room.at;
  }
  KeptTable& kept = *room.kept;
  const bool captured = captures(stream), same = kept.at == room.at && kept.held == bytes;
  if (same) {
    kept.in_graph = kept.in_graph || captured;
    return room.at;
  }
  // The list of one computing type may have grown or shrunk, and the other's table with it moved.
  KeptTable& beside = *room.beside;
  const bool overlaps = beside.overlaps(room.at, int64_t(bytes.size()));
  const bool read = kept.in_graph || (overlaps && beside.in_graph);
  if (captured || read) {
    kept.outgrown = kept.outgrown || read;
    write_changes(room.another, {}, bytes, stream);
    return room.another;
  }
  if (overlaps) beside = {};
  if (kept.at != room.at) kept = {room.at, {}};
  write_changes(room.at, kept.held, bytes, stream);
  kept.held = bytes;
  return room.at;
}

// Calls `run(kernel argument, shape)` with the table in the smallest place that holds it: a small
// argument (kSmall: that kernel exists), a large one, or the room, where it may be kept but for
// what changes: the rows, and operand `moving`. Returns the bytes that it takes of the room.
template <bool kSmall, class Builder, class Run>
int64_t with_table(const Builder& builder, int moving, const TableRoom& room, cudaStream_t stream,
                   Run run) {
  const auto at = [&](const unsigned char* elsewhere, const std::vector<unsigned char>& bytes,
                      const TableShape& shape) {
    const auto here = [&](const auto& table) { run(table, shape); };
    if constexpr (kSmall) {
      if (int64_t(bytes.size()) <= kSmallTable) {
        with_inline_table<kSmallTable>(bytes, here, elsewhere);
        return true;
      }
    }
    if (int64_t(bytes.size()) > kLargeTable) return false;
    with_inline_table<kLargeTable>(bytes, here, elsewhere);
    return true;
  };
  if (at(nullptr, builder.bytes(), builder.shape())) return 0;
  if (!room.at) {
    record_error("a long list of tensors needs a workspace");
    return 0;
  }
  for (const int operand : {moving, -1}) {
    if (!room.kept) break;
    const auto parts = builder.parts(operand);
    if (int64_t(parts.own.size()) > kLargeTable) continue;
    at(brought_up_to_date(room, parts.fixed, stream), parts.own, parts.shape);
    return int64_t(parts.fixed.size());
  }
  at(brought_up_to_date(room, builder.bytes(), stream), {}, builder.shape());
  return int64_t(builder.bytes().size());
}

}  // namespace
ONEPASS_END
