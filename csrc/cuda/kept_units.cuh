// What a block keeps in shared memory between two walks over its elements.
#pragma once
#include "cuda/memory.cuh"

ONEPASS_BEGIN
namespace {

// Units that the threads of a block keep, each its own: so many of each array, of kWords * 4 bytes.
template <int kBlock, int kWords = 4>
struct KeptUnits {
  static_assert(kWords <= 4, "a unit fits a Raw");
  using Unit = Pack<uint32_t, kWords>;
  Unit* memory;
  int units;

  // Of a block.
  static int64_t bytes(int64_t units, int arrays) { return units * kWords * 4 * kBlock * arrays; }
  ONEPASS_DEVICE static KeptUnits so_many(int units) {
    ONEPASS_DYNAMIC_SHARED(Unit, memory);
    return {memory, units};
  }
  ONEPASS_DEVICE Unit& of(int n, int array) const {
    return memory[(array * units + n) * kBlock + int(threadIdx.x)];
  }
  ONEPASS_DEVICE void put(int n, int array, const Raw& raw) const {
    Unit unit;
    ONEPASS_UNROLL
    for (int k = 0; k < kWords; ++k) unit[k] = raw[k];
    of(n, array) = unit;
  }
  ONEPASS_DEVICE Raw get(int n, int array) const {
    const Unit unit = of(n, array);
    Raw raw{};
    ONEPASS_UNROLL
    for (int k = 0; k < kWords; ++k) raw[k] = unit[k];
    return raw;
  }
};
// Of kernels that keep nothing.
struct NoneKept {
  static constexpr int units = 0;
  ONEPASS_DEVICE static NoneKept so_many(int) { return {}; }
  ONEPASS_DEVICE void put(int, int, const Raw&) const {}
  ONEPASS_DEVICE Raw get(int, int) const { return {}; }
};

}  // namespace
ONEPASS_END
