// Runs chunks of work on several threads; all CPU drivers use it.
//
// The caller cuts chunks by sizes alone. Any thread may run any chunk, so a result depends on the
// thread count only if a chunk depends on another chunk.
// Compiled into every instruction set: plain declarations only.
#pragma once
#include <cstdint>

namespace onepass {

// Elements of a chunk where nothing else decides: microseconds of work, beside which handing it
// over costs little, and few enough for any core's second-level cache.
constexpr int64_t kTaskElements = 16 << 10;

using ChunkFn = void (*)(void* context, int64_t chunk);

// Runs fn(context, chunk) once for every chunk in [0, chunks), on the caller and the pool's
// workers, and returns when all are done. Any thread may call it. While the pool serves another
// call (a call from inside a chunk is one), the chunks run on the caller alone. fn must not throw
// or fork.
void parallel_for(int64_t chunks, ChunkFn fn, void* context);

// Sets the threads of later calls, the caller included, clamped to [1, 1024]. Any thread may call
// it at any time. If the system refuses to start that many, get_num_threads returns the real
// number.
void set_num_threads(int n);

// The default is ONEPASS_NUM_THREADS if that is an integer in [1, 1024], else OMP_NUM_THREADS, else
// what cpus.h says in the first thread that calls this.
int get_num_threads();

// The variable among those two that is set and not understood, and hence ignored; null if none is.
const char* misspelt_num_threads();

}  // namespace onepass
