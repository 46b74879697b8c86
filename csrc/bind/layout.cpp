#include "bind/layout.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace onepass::bind {

namespace {

// Axes of more than one element, with strides in elements.
struct Axes {
  int count = 0;
  int64_t shape[kMaxAxes];
  const int operands;
  const std::unique_ptr<int64_t[][kMaxAxes]> held;
  int64_t (*const strides)[kMaxAxes];

  Axes(const Array* const* arrays, int n)
      : operands(n), held(new int64_t[size_t(n)][kMaxAxes]), strides(held.get()) {
    for (int d = 0; d < arrays[0]->ndim; ++d) {
      if (arrays[0]->shape[d] == 1) continue;
      shape[count] = arrays[0]->shape[d];
      for (int o = 0; o < n; ++o) strides[o][count] = arrays[o]->stride(d) / arrays[o]->itemsize();
      ++count;
    }
  }
  void swap(int i, int j) {
    std::swap(shape[i], shape[j]);
    for (int o = 0; o < operands; ++o) std::swap(strides[o][i], strides[o][j]);
  }
  void sort() {
    for (int i = 1; i < count; ++i)
      for (int j = i; j > 0 && std::abs(strides[0][j - 1]) < std::abs(strides[0][j]); --j)
        swap(j - 1, j);
  }
  // Walks axes that the first operand walks backwards from their other end.
  void flip(Operand* at) {
    for (int d = 0; d < count; ++d) {
      if (strides[0][d] >= 0) continue;
      for (int o = 0; o < operands; ++o) {
        at[o].data =
            static_cast<char*>(at[o].data) + strides[o][d] * (shape[d] - 1) * size_of(at[o].dtype);
        strides[o][d] = -strides[o][d];
      }
    }
  }
  void merge() {
    int last = 0;
    for (int d = 1; d < count; ++d) {
      bool together = true;
      for (int o = 0; o < operands; ++o)
        together = together && strides[o][last] == strides[o][d] * shape[d];
      if (together) {
        shape[last] *= shape[d];
      } else {
        shape[++last] = shape[d];
      }
      for (int o = 0; o < operands; ++o) strides[o][last] = strides[o][d];
    }
    if (count) count = last + 1;
  }
  bool dense(int o) const {
    int64_t next = 1;
    for (int d = count - 1; d >= 0; --d) {
      if (strides[o][d] != next) return false;
      next *= shape[d];
    }
    return true;
  }
};

}  // namespace

void arrange(Layout* layout, const Array* const* arrays, int count, bool keep_order) {
  layout->size = arrays[0]->size();
  layout->ndim = 1;
  layout->shape[0] = layout->size;
  bool all_dense = true;
  for (int o = 0; o < count; ++o) {
    layout->operands[o] = {arrays[o]->data, arrays[o]->dtype(), nullptr};
    all_dense = all_dense && arrays[o]->c_order;
  }
  if (all_dense || layout->size == 0) return;
  Axes axes(arrays, count);
  if (!keep_order) {
    axes.flip(layout->operands);
    axes.sort();
  }
  axes.merge();
  if (axes.count > kMaxDims)
    value_error(arrays[0]->op, arrays[0]->label() + " needs " + std::to_string(axes.count) +
                                   " dimensions after merging, at most " +
                                   std::to_string(kMaxDims) +
                                   " are supported; pass contiguous arrays");
  layout->ndim = axes.count;
  std::copy(axes.shape, axes.shape + axes.count, layout->shape);
  for (int o = 0; o < count; ++o) {
    if (axes.dense(o)) continue;
    std::copy(axes.strides[o], axes.strides[o] + axes.count, layout->strides[o]);
    layout->operands[o].strides = layout->strides[o];
  }
}

}  // namespace onepass::bind
