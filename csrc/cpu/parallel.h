// The one way to use more than one thread on the CPU.
//
// The caller cuts chunks, by sizes alone. Any thread may run any chunk, so a result depends on the
// thread count only if a chunk depends on another chunk.
// Compiled into every instruction set: plain declarations only.
#pragma once
#include <cstdint>

namespace onepass {

using ChunkFn = void (*)(void* context, int64_t chunk);

// Runs fn(context, chunk) once for every chunk in [0, chunks), on the caller and the pool's
// workers, and returns when all are done. Callable from any thread. While the pool serves another
// call, which includes a call from inside a chunk, the chunks run on the caller alone. fn must not
// throw or fork.
void parallel_for(int64_t chunks, ChunkFn fn, void* context);

// Threads of later calls, the caller included, clamped to [1, 1024]. Callable at any time from any
// thread. Should the system refuse to start so many, get_num_threads tells how many there are.
void set_num_threads(int n);

// The default is ONEPASS_NUM_THREADS if that is an integer in [1, 1024], else the number of CPUs in
// the affinity mask of the thread that asks first.
int get_num_threads();

}  // namespace onepass
