#include "bind/staging.h"

#include <cstring>

namespace onepass::bind {

bool Staging::misaligned(const View& v) {
  if (v.c_order) return false;
  const int64_t item = v.itemsize();
  if (item <= 1 || v.size() == 0) return false;
  bool bad = reinterpret_cast<uintptr_t>(v.data) % uintptr_t(item);
  for (int d = 0; d < v.ndim; ++d) bad = bad || (v.shape[d] > 1 && v.stride(d) % item);
  return bad;
}

// visit(element) for every element of an array of any strides, in C order.
template <class Visit>
static void for_elements(const View& v, Visit visit) {
  const int64_t size = v.size();
  int64_t index[kMaxAxes] = {};
  char* at = static_cast<char*>(v.data);
  for (int64_t i = 0; i < size; ++i) {
    visit(at);
    for (int d = v.ndim - 1; d >= 0; --d) {
      at += v.stride(d);
      if (++index[d] < v.shape[d]) break;
      at -= v.shape[d] * v.stride(d);
      index[d] = 0;
    }
  }
}

// Copies all elements to dense memory.
static void gather(const View& v, char* dense) {
  const auto item = size_t(v.itemsize());
  for_elements(v, [&](const char* at) {
    std::memcpy(dense, at, item);
    dense += item;
  });
}
static void scatter(const View& v, const char* dense) {
  const auto item = size_t(v.itemsize());
  for_elements(v, [&](char* at) {
    std::memcpy(at, dense, item);
    dense += item;
  });
}

void fill_zero(const Array& a) {
  const auto item = size_t(a.itemsize());
  if (a.c_order) {
    std::memset(a.data, 0, size_t(a.size()) * item);
  } else {
    for_elements(a, [&](char* at) { std::memset(at, 0, item); });
  }
}

void Staging::load_on_device(Array* a, bool writes) {
  if (!writes) {
    made_.push_back(
        py::module_::import("onepass._array").attr("contiguous")(py::handle(a->object)));
    Array copy;
    open(&copy, a->op, a->name, made_.back().ptr(), a->index);
    if (copy.c_order) {
      *a = std::move(copy);
      return;
    }
  }
  value_error(a->op, a->label() +
                         " is not aligned to its elements or not contiguous; pass a contiguous "
                         "copy");
}

void Staging::load(Array* a, bool writes) {
  if (a->cuda_device >= 0) return load_on_device(a, writes);
  copies_.emplace_back();
  Copy& copy = copies_.back();
  copy.original = *a;
  copy.writes = writes;
  const int64_t bytes = a->size() * a->itemsize();
  copy.memory.resize(size_t(bytes / 8 + 1));
  gather(*a, reinterpret_cast<char*>(copy.memory.data()));
  copy.dims.assign(a->shape, a->shape + a->ndim);
  copy.dims.resize(size_t(2 * a->ndim));
  int64_t next = a->itemsize();
  for (int d = a->ndim - 1; d >= 0; --d) {
    copy.dims[size_t(a->ndim + d)] = next;
    next *= a->shape[d];
  }
  a->data = copy.memory.data();
  a->shape = copy.dims.data();
  a->strides = copy.dims.data() + a->ndim;
  a->stride_unit = 1;
  a->c_order = true;
}

void Staging::store_copies() {
  for (Copy& copy : copies_)
    if (copy.writes) scatter(copy.original, reinterpret_cast<const char*>(copy.memory.data()));
}

}  // namespace onepass::bind
