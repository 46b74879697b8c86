// Runs CUDA kernel source on the CPU: one block, or one cluster of blocks, at a time, each CUDA
// thread a fiber.
//
// csrc/cuda/device.h includes this file where there is no nvcc and builds its wrappers on it;
// kernels never name it. Tests use the part marked "for tests". It checks what the source says, not
// what a GPU does with it. One launch runs at a time: a second host thread waits for the first.
#pragma once
#include <cfenv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
#define __shared__ static_assert(false, "use ONEPASS_SHARED or ONEPASS_DYNAMIC_SHARED");
#define __constant__ static_assert(false, "kernels have no device-side globals: pass a parameter");

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Those of the running CUDA thread; the scheduler sets them at every switch.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719,
};
using cudaStream_t = struct CUstream_st*;

// core/philox.h says where; it may be included before this file (see FLAGS of
// tests/cuda_simulator.py).
#define ONEPASS_DRAWN() ::cusim::count(&::cusim::counts.draws, 1)

namespace cusim {

// ---- For tests -------------------------------------------------------------------------------

// The order in which blocks, and the threads of a block between two meetings, take their turns.
// The random order is a function of the seed alone.
enum class Order { kForward, kReverse, kRandom };

struct Options {
  Order order = Order::kForward;
  uint64_t seed = 0;
  int resident_blocks = 4;            // what onepass::cuda::resident_blocks answers
  int most_shared_bytes = 227 << 10;  // likewise; of sm_90
  bool clusters = true;               // whether the device starts blocks in clusters; of sm_90
  unsigned cluster_blocks = 8;        // of all clusters that run at once; 0: a kernel cannot
};

Options options();
void set_options(const Options& options);

// The error of the last launch, with thread, block, file and line; "" if there was none.
std::string last_error();

// What kernels have done since the counts were last set to zero: launches, bytes that the load and
// store wrappers of device.h and memory.cuh have moved, and calls of Philox.
struct Counts {
  uint64_t launches = 0, read = 0, written = 0, draws = 0;
};
inline Counts counts;

// What a CUDA graph does: launches from start_recording to stop_recording do not run but are kept,
// with their arguments, and run at each replay.
using Recording = std::vector<std::function<cudaError_t()>>;
void start_recording();
Recording stop_recording();
bool is_recording();

// Two devices, which share all memory. One has no context until something makes one there.
constexpr int kDevices = 2;
int current_device();         // 0 where this thread has no current context
void set_device(int device);  // as cudaSetDevice does: with a context
bool has_context(int device);
bool none_is_current();
void forget_contexts();  // as in a process that has used no device yet

inline void count(uint64_t* which, uint64_t by) {  // relaxed: it orders no two CUDA threads
  __atomic_fetch_add(which, by, __ATOMIC_RELAXED);
}

// ---- For contexts.h and host.cu: the functions of the driver, with its numbers of errors ------

int get_current(void** context);
int get_device(int* device);
int device_at(int* device, int ordinal);
int retain(void** context, int device);
int push_context(void* context);
int pop_context(void** context);
int describe_error(int error, const char** text);
// What every call of the runtime that needs a context does: where none is current, device 0's is.
void touch_context();

// ---- For device.h ----------------------------------------------------------------------------

// Where in the kernel source a device function was called. As a default argument, here() is
// evaluated at the call.
struct Site {
  const char* file;
  int line;
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

void block_sync(Site site);
void cluster_sync(Site site);
void warp_sync(unsigned mask, Site site);
void fence();
unsigned ballot(unsigned mask, bool predicate, Site site);
uint64_t shuffle_bits(unsigned mask, uint64_t bits, int source, Site site);
int lane();
inline int lane_above(int distance) { return lane() + distance < 32 ? lane() + distance : lane(); }

template <class T>
T shuffle(unsigned mask, T value, int source, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = shuffle_bits(mask, bits, source, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// Around every atomic operation, so that fences and atomics order memory as they do on the device.
void before_atomic(const void* address);
void after_atomic(const void* address);

// A real atomic operation, so that ThreadSanitizer sees atomic against plain accesses.
template <class T, class Update>
T atomic(T* address, Update update) {
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "atomics are on integers of 4 or 8 bytes");
  before_atomic(address);
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(address, &old, T(update(old)), false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED)) {
  }
  after_atomic(address);
  return old;
}

[[noreturn]] void fail(const char* what, Site site);

template <class T>
T counted_load(const T* address) {
  count(&counts.read, sizeof(T));
  return *address;
}
template <class T>
void counted_store(T* address, T value) {
  count(&counts.written, sizeof(T));
  *address = value;
}

template <class To, class T>
To* aligned(T* address, Site site) {
  if (reinterpret_cast<uintptr_t>(address) % alignof(To) != 0)
    fail("a vector load or store is not aligned to its 16 or 8 bytes", site);
  return reinterpret_cast<To*>(address);
}

// One per place in the source, per instantiation: its address names a shared variable.
template <class Place>
inline char shared_key = 0;

void* shared_memory(const void* key, size_t bytes, Site site);
void* dynamic_shared_memory();

// The same variable of the block `rank` of the cluster, which must still run.
const void* shared_memory_of(const void* own, unsigned rank, Site site);
template <class T>
T load_of_block(const T* own, unsigned rank, Site site) {
  return *static_cast<const T*>(shared_memory_of(own, rank, site));
}

// Starts a copy of 16 bytes into shared memory, commits those started to a group, waits until at
// most so many groups are on their way. A copy is made as late as it may be, at that wait; until
// then its target has garbage.
void start_copy(void* to, const void* from, Site site);
void commit_copies();
bool next_copy(size_t groups_left, void** to, const void** from);  // false: none must have come

struct alignas(16) Sixteen {
  uint32_t words[4];
};
inline void copy_async(void* to, const void* from, Site site) {
  *aligned<Sixteen>(static_cast<char*>(to), site) = {~0u, ~0u, ~0u, ~0u};
  start_copy(to, aligned<const Sixteen>(static_cast<const char*>(from), site), site);
}
inline void wait_for_copies(size_t groups_left) {
  void* to = nullptr;
  const void* from = nullptr;
  while (next_copy(groups_left, &to, &from))
    *static_cast<Sixteen*>(to) = counted_load(static_cast<const Sixteen*>(from));
}

template <class T, class Place>
T& shared_variable(Place, Site site = Site::here()) {
  static_assert(std::is_trivial_v<std::remove_all_extents_t<T>> && alignof(T) <= 16,
                "shared memory holds plain types");
  return *static_cast<T*>(shared_memory(&shared_key<Place>, sizeof(T), site));
}

template <class T>
T* dynamic_shared() {
  static_assert(std::is_trivial_v<T> && alignof(T) <= 16, "shared memory holds plain types");
  return static_cast<T*>(dynamic_shared_memory());
}

// A kernel and the addresses of its arguments, without their types.
struct Call {
  const void* kernel;
  const void* const* arguments;
  void (*run)(const Call& call);
};

cudaError_t launch(const Call& call, dim3 grid, dim3 block, size_t dynamic_bytes, unsigned cluster);
void record(std::function<cudaError_t()> launch);

template <class... P, size_t... I>
void run_kernel(const Call& call, std::index_sequence<I...>) {
  auto* kernel = reinterpret_cast<void (*)(P...)>(const_cast<void*>(call.kernel));
  kernel(*static_cast<const P*>(call.arguments[I])...);
}

// start(arguments) with copies of them, and with the processor's treatment of subnormals, as now.
template <class... P, class Start, size_t... I>
std::function<cudaError_t()> kept_launch(Start start, const void* const* arguments,
                                         std::index_sequence<I...>) {
  const auto copies = std::make_shared<std::tuple<P...>>(*static_cast<const P*>(arguments[I])...);
  std::fenv_t mode;
  std::fegetenv(&mode);
  return [=] {
    const void* addresses[] = {static_cast<const void*>(&std::get<I>(*copies))..., nullptr};
    std::fenv_t before;
    std::fegetenv(&before);
    std::fesetenv(&mode);
    const cudaError_t error = start(addresses);
    std::fesetenv(&before);
    return error;
  };
}

template <class... P>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t dynamic_bytes,
                   unsigned cluster, const void* const* arguments) {
  const auto run = [](const Call& call) {
    run_kernel<P...>(call, std::index_sequence_for<P...>());
  };
  const auto start = [=](const void* const* given) {
    return launch({reinterpret_cast<const void*>(kernel), given, run}, grid, block, dynamic_bytes,
                  cluster);
  };
  if (!is_recording()) return start(arguments);
  record(kept_launch<P...>(start, arguments, std::index_sequence_for<P...>()));
  return cudaSuccess;
}

cudaError_t allow_dynamic_shared(const void* kernel, size_t bytes);
const char* error_string(cudaError_t error);

}  // namespace cusim
