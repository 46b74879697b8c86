// Loops that read and write arrays and compute next to nothing: the limit that memory sets to a
// kernel with as many arrays. The benchmark times kernels beside them.
//
// Not in core/backend.h: they are no kernels, and CUDA has none.
// Compiled into every instruction set: plain declarations only.
#pragma once
#include <cstdint>

namespace onepass {

// How many arrays of one size are read, written, and read and written in place.
struct StreamShape {
  int reads, writes, updates;
};

// Those that kernels have; for any other the benchmark takes the nearest. A new one is a line here.
constexpr StreamShape kStreamShapes[] = {
    {1, 0, 0}, {2, 0, 0}, {0, 1, 0}, {0, 0, 1},             // sums; random bits; in place
    {1, 1, 0}, {2, 1, 0}, {3, 1, 0}, {4, 1, 0},             // activations, norms, their gradients
    {1, 2, 0}, {2, 2, 0}, {3, 2, 0}, {4, 2, 0}, {1, 4, 0},  // both ways; several results
    {1, 0, 1}, {1, 0, 2}, {1, 0, 3}, {1, 0, 4}, {1, 0, 5},  // steps
    {2, 0, 2}, {2, 0, 3}, {2, 0, 4},                        // steps that need the norm of gradients
    {2, 1, 1}, {2, 1, 2}, {2, 1, 3}, {2, 1, 4},             // the same, clearing them
};
constexpr int kStreamShapeCount = int(sizeof(kStreamShapes) / sizeof(kStreamShapes[0]));

// The arrays of a shape, as bits: nothing that they hold may cost time.
struct Streams {
  const uint32_t* const* reads;
  uint32_t* const* writes;
  uint32_t* const* updates;
};

// With v = kStreamMark ^ reads[0][i] ^ reads[1][i] ^ …, every writes[j][i] becomes v and every
// updates[j][i] becomes updates[j][i] ^ v, for i in [begin, begin + n). A shape that only reads
// returns the exclusive or of all v, others 0. With past_caches, what is only written goes past the
// caches; these arrays and `begin` are then aligned to 64 bytes.
constexpr uint32_t kStreamMark = 0x3f800000;  // 1.0f
using StreamLoop = uint32_t (*)(const Streams& streams, int64_t begin, int64_t n, bool past_caches);

// A loop for each of kStreamShapes.
struct StreamTable {
  StreamLoop loops[kStreamShapeCount];
};
// Those of the current instruction set (cpu/dispatch.cpp).
const StreamTable& cpu_streams();

}  // namespace onepass
