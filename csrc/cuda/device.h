// CUDA behind one layer: every .cu and .cuh file includes this instead of <cuda_runtime.h>.
//
// Under nvcc this is real CUDA, and each wrapper is one instruction or one runtime call. Under any
// other compiler it is the simulator of tests/cuda_sim, which runs the same kernel source on the
// CPU, where AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer can check it.
//
// Rules for kernels. The simulator cannot check those marked (!).
//  1. A kernel uses the functions of this file, `__global__`, `__device__`, `__launch_bounds__`,
//     `__grid_constant__`, threadIdx, blockIdx, blockDim, gridDim, and nothing else of CUDA: no
//     inline PTX, cooperative groups, cp.async, textures, vector types or device-side globals.
//  2. Shared memory is ONEPASS_SHARED, never `__shared__`. It starts as garbage: write before
//     reading.
//  3. Launches go through launch(), never <<<>>>.
//  4. Every thread of a block reaches the same block_sync, and every thread of a cluster the same
//     cluster_sync. A warp operation names its lanes by mask and all of those lanes arrive at the
//     same source line. So no return before a barrier or warp operation: guard the work instead.
//  5. Only warp_sync, block_sync and cluster_sync order memory between threads; shuffles and
//     ballots do not.
//  6. No block waits for another that is not of its cluster (!). Blocks talk through one pattern:
//     write, fence(), integer atomic; and on the other side atomic, fence() by the same thread,
//     block_sync, read.
//  7. Atomics are on integers, where the order of arrival cannot change the final value. Sums of
//     floats combine fixed parts in a fixed order.
//  8. Sizes and element indices are int64_t (!): int64_t(blockIdx.x) * blockDim.x + threadIdx.x.
//  9. Kernels are templates over functors, instantiated in thin .cu files, so that the simulator
//     runs the same instantiations as the library.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#elif __has_include("cusim.h")
#include "cusim.h"
#else
#error "csrc/cuda/device.h needs nvcc, or the simulator: add -I tests/cuda_sim"
#endif

// ONEPASS_CUDA_OR_SIM is for the wrappers here and in tests/cuda_sim/spare.cuh alone.
#ifdef __CUDACC__
#define ONEPASS_DEVICE __device__ __forceinline__
// A function that a kernel holds once, however often it is called: for code that is large and
// whose arguments fit in registers.
#define ONEPASS_DEVICE_APART __device__ __noinline__
#define ONEPASS_UNROLL _Pragma("unroll")
#define ONEPASS_NO_UNROLL _Pragma("unroll 1")
// Shared variable of the block: ONEPASS_SHARED(float, tile, [32][33]); aligned to 16 bytes.
#define ONEPASS_SHARED(T, name, ...) __shared__ __align__(16) T name __VA_ARGS__
// Pointer to the launch's shared_bytes, aligned to 16: ONEPASS_DYNAMIC_SHARED(float, row);
#define ONEPASS_DYNAMIC_SHARED(T, name)                                          \
  extern __shared__ __align__(16) unsigned char onepass_dynamic_shared_memory[]; \
  T* name = reinterpret_cast<T*>(onepass_dynamic_shared_memory)
#define ONEPASS_CUDA_OR_SIM(real, simulated) real
#else
#define ONEPASS_DEVICE inline
#define ONEPASS_DEVICE_APART inline
#define ONEPASS_UNROLL
#define ONEPASS_NO_UNROLL
#define ONEPASS_SHARED(T, name, ...) auto& name = ::cusim::shared_variable<T __VA_ARGS__>([] {})
#define ONEPASS_DYNAMIC_SHARED(T, name) T* name = ::cusim::dynamic_shared<T>()
#define ONEPASS_CUDA_OR_SIM(real, simulated) simulated
#endif

// At most so many registers for a thread; where nvcc cannot be told, as many as let so many blocks
// of so many threads run at once.
#if defined(__CUDACC__) && CUDART_VERSION >= 12040
#define ONEPASS_REGISTERS(registers, threads, blocks) __maxnreg__(registers)
#else
#define ONEPASS_REGISTERS(registers, threads, blocks) __launch_bounds__(threads, blocks)
#endif

namespace onepass {
namespace cuda {

constexpr int kWarpSize = 32;
constexpr unsigned kFullWarp = 0xffffffffu;

template <class T>
struct SameType {
  using type = T;
};

// The place of a call to a device function, for messages of the simulator. Empty under nvcc.
#ifdef __CUDACC__
struct Site {
  static constexpr __host__ __device__ Site here() { return {}; }
};
#else
using cusim::Site;
#endif

// ---- Barriers --------------------------------------------------------------------------------

ONEPASS_DEVICE void block_sync([[maybe_unused]] Site site = Site::here()) {
  ONEPASS_CUDA_OR_SIM(__syncthreads(), cusim::block_sync(site));
}

// The same for all blocks of a cluster: see launch(). A kernel without clusters is one of clusters
// of one block. Before sm_90 there are no others.
ONEPASS_DEVICE void cluster_sync([[maybe_unused]] Site site = Site::here()) {
#ifndef __CUDACC__
  cusim::cluster_sync(site);
#elif __CUDA_ARCH__ >= 900
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
#else
  __syncthreads();
#endif
}

ONEPASS_DEVICE void warp_sync(unsigned mask, [[maybe_unused]] Site site = Site::here()) {
  ONEPASS_CUDA_OR_SIM(__syncwarp(mask), cusim::warp_sync(mask, site));
}

// Earlier writes of this thread become visible through its later atomics, and writes published by
// others through its earlier ones. Device-wide; within a block use block_sync.
ONEPASS_DEVICE void fence() { ONEPASS_CUDA_OR_SIM(__threadfence(), cusim::fence()); }

// ---- Warp operations -------------------------------------------------------------------------
// A thread's lane is its linear index in the block modulo 32. A lane read must be in the mask.

// Each lane gets `value` of lane `source`, 0 to 31.
template <class T>
ONEPASS_DEVICE T warp_shuffle(unsigned mask, T value, int source,
                              [[maybe_unused]] Site site = Site::here()) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  return ONEPASS_CUDA_OR_SIM(__shfl_sync(mask, value, source),
                             cusim::shuffle(mask, value, source, site));
}

// Each lane gets `value` of the lane whose number differs in the bits of `lane_bits`, 0 to 31.
template <class T>
ONEPASS_DEVICE T warp_shuffle_xor(unsigned mask, T value, int lane_bits,
                                  [[maybe_unused]] Site site = Site::here()) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  return ONEPASS_CUDA_OR_SIM(__shfl_xor_sync(mask, value, lane_bits),
                             cusim::shuffle(mask, value, cusim::lane() ^ lane_bits, site));
}

// Whether the predicate of any lane in the mask is true.
ONEPASS_DEVICE bool warp_any(unsigned mask, bool predicate,
                             [[maybe_unused]] Site site = Site::here()) {
  return ONEPASS_CUDA_OR_SIM(__any_sync(mask, predicate), cusim::ballot(mask, predicate, site)) !=
         0;
}

// ---- Atomics -----------------------------------------------------------------------------------
// Device-wide and relaxed.

// Counts 0, 1, …, last, 0, 1, …: the caller that gets `last` is the last of last + 1 to arrive, and
// the counter is ready for the next launch.
ONEPASS_DEVICE unsigned atomic_ticket(unsigned* counter, unsigned last) {
  return ONEPASS_CUDA_OR_SIM(atomicInc(counter, last), cusim::atomic(counter, [=](unsigned old) {
                               return old >= last ? 0u : old + 1;
                             }));
}

// Sets a word that the host may read while the kernel runs. It may be mapped host memory, where
// atomics need not work. All threads must set the same value.
ONEPASS_DEVICE void tell_host(uint32_t* word, uint32_t value) {
#ifdef __CUDACC__
  *static_cast<volatile uint32_t*>(word) = value;
  __threadfence_system();
#else
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
#endif
}

// ---- Memory of a cluster -----------------------------------------------------------------------

// The value that the block `rank` of the cluster has in its shared memory where this block has
// `own`. A cluster_sync lies between its writing and this, and another before that block ends.
template <class T>
ONEPASS_DEVICE T load_of_block(const T* own, [[maybe_unused]] int rank,
                               [[maybe_unused]] Site site = Site::here()) {
#ifndef __CUDACC__
  return cusim::load_of_block(own, unsigned(rank), site);
#elif __CUDA_ARCH__ >= 900
  return *static_cast<const T*>(__cluster_map_shared_rank(own, unsigned(rank)));
#else
  return *own;
#endif
}

// ---- Arithmetic --------------------------------------------------------------------------------

// v² + sum, rounded once on a GPU, twice in the simulator.
ONEPASS_DEVICE double add_square(double v, double sum) {
  return ONEPASS_CUDA_OR_SIM(__fma_rn(v, v, sum), v * v + sum);
}

// 2^x to two units in the last place, 0 where that would be subnormal: one instruction, for results
// that need not have the CPU's bits.
ONEPASS_DEVICE float exp2_approximate(float x) {
#ifdef __CUDACC__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return x < -126 ? 0.0f : __builtin_exp2f(x);
#endif
}

// ---- Loads and stores --------------------------------------------------------------------------

// One value. The simulator counts its bytes.
template <class T>
ONEPASS_DEVICE T load_value(const T* address) {
  return ONEPASS_CUDA_OR_SIM(*address, cusim::counted_load(address));
}
template <class T>
ONEPASS_DEVICE void store_value(T* address, typename SameType<T>::type value) {
  ONEPASS_CUDA_OR_SIM(*address = value, cusim::counted_store(address, value));
}

// N neighbouring elements in registers, moved to and from global memory 16 bytes at a time, or
// all 8.
template <class T, int N = 16 / int(sizeof(T))>
struct alignas(N * sizeof(T) == 8 ? 8 : 16) Pack {
  static_assert(std::is_trivially_copyable_v<T> && N > 0 &&
                    (N * sizeof(T) % 16 == 0 || N * sizeof(T) == 8),
                "a pack is 8 bytes, or a whole number of 16-byte pieces");
  T value[N];
  ONEPASS_DEVICE T& operator[](int i) { return value[i]; }
  ONEPASS_DEVICE const T& operator[](int i) const { return value[i]; }
};

#ifdef __CUDACC__
// Copies as uint4 or uint2, each one instruction: nvcc may turn a plain assignment into four. The
// clobber keeps a load behind the stores before it.
ONEPASS_DEVICE uint4 load_piece(const uint4* address) {
  uint4 v;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(__cvta_generic_to_global(address))
               : "memory");
  return v;
}
ONEPASS_DEVICE uint2 load_piece(const uint2* address) {
  uint2 v;
  asm volatile("ld.global.v2.u32 {%0, %1}, [%2];"
               : "=r"(v.x), "=r"(v.y)
               : "l"(__cvta_generic_to_global(address))
               : "memory");
  return v;
}
template <size_t kBytes>
using PieceOf = std::conditional_t<kBytes == 8, uint2, uint4>;
template <class T, int N>
ONEPASS_DEVICE Pack<T, N> load_pieces(const T* address) {
  using Piece = PieceOf<N * sizeof(T)>;
  const Piece* source = reinterpret_cast<const Piece*>(address);
  constexpr int kPieces = N * sizeof(T) / sizeof(Piece);
  Piece pieces[kPieces];
  ONEPASS_UNROLL
  for (int i = 0; i < kPieces; ++i) pieces[i] = load_piece(source + i);
  Pack<T, N> pack;
  memcpy(pack.value, pieces, sizeof(pack));
  return pack;
}

template <bool kStreaming, class T, int N>
ONEPASS_DEVICE void store_pieces(T* address, const Pack<T, N>& pack) {
  using Piece = PieceOf<N * sizeof(T)>;
  Piece* target = reinterpret_cast<Piece*>(address);
  constexpr int kPieces = N * sizeof(T) / sizeof(Piece);
  Piece pieces[kPieces];
  memcpy(pieces, pack.value, sizeof(pack));
  ONEPASS_UNROLL
  for (int i = 0; i < kPieces; ++i) {
    if (kStreaming) {
      __stcs(target + i, pieces[i]);
    } else {
      __stwb(target + i, pieces[i]);
    }
  }
}
#endif

// The address must be a multiple of 16, or of 8 for a pack of 8. Otherwise a GPU faults; the
// simulator names the line.
template <int N, class T>
ONEPASS_DEVICE Pack<T, N> load_pack(const T* address, [[maybe_unused]] Site site = Site::here()) {
  return ONEPASS_CUDA_OR_SIM(
      (load_pieces<T, N>(address)),
      (cusim::counted_load(cusim::aligned<const Pack<T, N>>(address, site))));
}

template <class T, int N>
ONEPASS_DEVICE void store_pack(T* address, const Pack<T, N>& pack,
                               [[maybe_unused]] Site site = Site::here()) {
  ONEPASS_CUDA_OR_SIM((store_pieces<false>(address, pack)),
                      (cusim::counted_store(cusim::aligned<Pack<T, N>>(address, site), pack)));
}

// The same for memory that nothing reads again soon: its lines leave the cache first.
template <class T, int N>
ONEPASS_DEVICE void store_pack_streaming(T* address, const Pack<T, N>& pack,
                                         [[maybe_unused]] Site site = Site::here()) {
  ONEPASS_CUDA_OR_SIM((store_pieces<true>(address, pack)),
                      (cusim::counted_store(cusim::aligned<Pack<T, N>>(address, site), pack)));
}

// ---- Host side ---------------------------------------------------------------------------------

// Blocks that run at once and may read each other's shared memory: so many neighbours along x.
struct Cluster {
  unsigned blocks;
};
constexpr unsigned kMostInCluster = 8;  // on every device that has clusters

#ifdef __CUDACC__
// A launch in clusters, whose description `shape` holds.
inline cudaLaunchConfig_t in_clusters(Cluster cluster, dim3 grid, dim3 block, size_t shared_bytes,
                                      cudaStream_t stream, cudaLaunchAttribute* shape) {
  shape->id = cudaLaunchAttributeClusterDimension;
  shape->val.clusterDim.x = cluster.blocks;
  shape->val.clusterDim.y = 1;
  shape->val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = shape;
  config.numAttrs = 1;
  return config;
}
#endif

// Starts kernel(arguments…) on `stream`, in clusters. Arguments convert to the parameter types of
// the kernel. Returns the error and clears it, so that the next cudaGetLastError does not see it.
template <class... P>
cudaError_t launch(Cluster cluster, void (*kernel)(P...), dim3 grid, dim3 block,
                   size_t shared_bytes, cudaStream_t stream,
                   const typename SameType<P>::type&... arguments) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "kernel parameters are plain values");
  static_assert((sizeof(P) + ... + 0) <= 32764, "CUDA passes at most 32,764 bytes to a kernel");
  const void* addresses[] = {static_cast<const void*>(&arguments)..., nullptr};
#ifdef __CUDACC__
  cudaError_t error;
  if (cluster.blocks == 1) {
    error = cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block,
                             const_cast<void**>(addresses), shared_bytes, stream);
  } else {
    cudaLaunchAttribute shape;
    const cudaLaunchConfig_t config =
        in_clusters(cluster, grid, block, shared_bytes, stream, &shape);
    error = cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel),
                                const_cast<void**>(addresses));
  }
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
#else
  (void)stream;
  return cusim::launch(kernel, grid, block, shared_bytes, cluster.blocks, addresses);
#endif
}
template <class... P>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, const typename SameType<P>::type&... arguments) {
  return launch(Cluster{1}, kernel, grid, block, shared_bytes, stream, arguments...);
}

// How many clusters of such a kernel the current device, which has clusters, can run at once. None
// of a kernel whose code is of an older GPU: from PTX of that one the driver makes code for this
// one, in which cluster_sync and load_of_block are those of single blocks.
template <class... P>
cudaError_t resident_clusters(int* clusters, Cluster cluster, void (*kernel)(P...), int threads,
                              size_t shared_bytes) {
#ifdef __CUDACC__
  const auto* const code = reinterpret_cast<const void*>(kernel);
  cudaFuncAttributes about;
  *clusters = 0;
  const cudaError_t error = cudaFuncGetAttributes(&about, code);
  if (error != cudaSuccess || about.ptxVersion < 90) return error;
  cudaLaunchAttribute shape;
  const cudaLaunchConfig_t config =
      in_clusters(cluster, dim3(cluster.blocks), dim3(threads), shared_bytes, nullptr, &shape);
  if (cudaOccupancyMaxActiveClusters(clusters, code, &config) != cudaSuccess) {
    *clusters = 0;  // a part of a GPU (MIG) may have no such size
    (void)cudaGetLastError();
  }
  return cudaSuccess;
#else
  (void)kernel, (void)threads, (void)shared_bytes;
  *clusters = int(cusim::options().cluster_blocks / cluster.blocks);
  return cudaSuccess;
#endif
}

// The grid of a persistent kernel: the number of blocks of `threads` threads that the current
// device runs at once.
template <class... P>
cudaError_t resident_blocks(int* blocks, void (*kernel)(P...), int threads, size_t shared_bytes) {
#ifdef __CUDACC__
  int device = 0, processors = 0, per_processor = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess)
    error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, kernel, threads,
                                                          shared_bytes);
  *blocks = processors * per_processor;
  return error;
#else
  (void)kernel, (void)threads, (void)shared_bytes;
  *blocks = cusim::options().resident_blocks;
  return cudaSuccess;
#endif
}

// What depends on the current device: the bytes of shared memory that a block may have, with that
// permission, and whether there are clusters.
struct Device {
  int most_shared_bytes, clusters;
};
inline cudaError_t describe_device(Device* d) {
#ifdef __CUDACC__
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&d->most_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                   device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&d->clusters, cudaDevAttrClusterLaunch, device);
  return error;
#else
  *d = {cusim::options().most_shared_bytes, cusim::options().clusters};
  return cudaSuccess;
#endif
}

// Lets `kernel` be launched with up to `bytes` of dynamic shared memory; needed once per device
// where dynamic and static shared memory together exceed 48 KiB. It takes the place of what was
// allowed before, in all threads of the process.
template <class... P>
cudaError_t allow_dynamic_shared(void (*kernel)(P...), size_t bytes) {
  return ONEPASS_CUDA_OR_SIM(
      cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                           cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)),
      cusim::allow_dynamic_shared(reinterpret_cast<const void*>(kernel), bytes));
}

// Lets it have all that a block of the current device has beside the kernel's static shared memory;
// `bytes`: how much that is.
template <class... P>
cudaError_t allow_most_shared(int* bytes, void (*kernel)(P...)) {
  Device device{};
  cudaError_t error = describe_device(&device);
  if (error != cudaSuccess) return error;
  *bytes = device.most_shared_bytes;
#ifdef __CUDACC__
  cudaFuncAttributes about;
  error = cudaFuncGetAttributes(&about, reinterpret_cast<const void*>(kernel));
  if (error != cudaSuccess) return error;
  *bytes -= int(about.sharedSizeBytes);
#endif
  return allow_dynamic_shared(kernel, size_t(*bytes));
}

// The error as a sentence. The simulator adds thread, block, file and line of the last launch.
inline const char* error_string(cudaError_t error) {
#ifdef __CUDACC__
  if (error == cudaErrorNoKernelImageForDevice)
    return "this build has no code for the GPU; build it with CUDAARCHS set to its compute "
           "capability";
#endif
  return ONEPASS_CUDA_OR_SIM(cudaGetErrorString(error), cusim::error_string(error));
}

}  // namespace cuda
}  // namespace onepass
