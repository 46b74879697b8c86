// Launches kernels and keeps their errors for Backend::last_error. The default is kThreads threads
// per block and no dynamic shared memory. Nothing here waits for the device, allocates on it, or
// clears an error of another library.
#pragma once
#include "core/dtype.h"
#include "core/hd.h"
#include "cuda/device.h"
#include "cuda/host.h"
#include "cuda/memory.cuh"

ONEPASS_BEGIN
namespace {

template <int kBlockThreads = kThreads, class... P>
void start_with(Cluster cluster, int64_t shared_bytes, void (*kernel)(P...), int64_t blocks,
                cudaStream_t stream, const typename SameType<P>::type&... arguments) {
#if defined(ONEPASS_FLUSHED) && !defined(__CUDACC__)
  const FlushDenormals flush;
#endif
  const cudaError_t error = launch(cluster, kernel, dim3(unsigned(blocks)), dim3(kBlockThreads),
                                   size_t(shared_bytes), stream, arguments...);
  if (error != cudaSuccess) record_error(error_string(error));
}
template <int kBlockThreads = kThreads, class... P>
void start_with(int64_t shared_bytes, void (*kernel)(P...), int64_t blocks, cudaStream_t stream,
                const typename SameType<P>::type&... arguments) {
  start_with<kBlockThreads>(Cluster{1}, shared_bytes, kernel, blocks, stream, arguments...);
}
template <int kBlockThreads = kThreads, class... P>
void start(void (*kernel)(P...), int64_t blocks, cudaStream_t stream,
           const typename SameType<P>::type&... arguments) {
  start_with<kBlockThreads>(0, kernel, blocks, stream, arguments...);
}

// What describe_device answers, cached per thread and device.
inline Device this_device() {
  Device now{};
#ifdef __CUDACC__
  static thread_local Device known[kMostDevices];
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess || device >= kMostDevices) return now;
  Device& slot = known[device];
  if (slot.most_shared_bytes == 0 && describe_device(&slot) != cudaSuccess) {
    (void)cudaGetLastError();
    slot = {};
  }
  now = slot;
#else
  (void)describe_device(&now);
#endif
  return now;
}
// ask(&answer) about a kernel on the current device, cached per thread: the runtime takes
// microseconds, and may refuse while a graph is captured. `about`: the question, where it has one,
// and what else the answer depends on. In the simulator there is no cache, so that tests can change
// its device.
constexpr int64_t kResident = 0, kMostShared = 1;  // has_room asks from 2 on
template <class Kernel, class Ask>
int known_answer([[maybe_unused]] Kernel kernel, [[maybe_unused]] int64_t about, Ask ask) {
  int answer = 0;
#ifdef __CUDACC__
  int device = 0;
  if (cudaGetDevice(&device) == cudaSuccess) {
    const auto* key = reinterpret_cast<const void*>(kernel);
    KnownAnswer& slot = known_answer_at(key, about);
    if (slot.kernel == key && slot.device == device && slot.about == about) return slot.answer;
    const cudaError_t error = ask(&answer);
    if (error == cudaSuccess) {
      slot = {key, about, device, answer};
    } else {
      (void)cudaGetLastError();
      record_error(error_string(error));
      answer = 0;  // which may have been written before the error
    }
  }
#else
  (void)ask(&answer);
#endif
  return answer;
}
// Lets a kernel have so many bytes of dynamic shared memory; false: it may not. It is given all
// that there is: threads share the permission, so that one which asked for less would take it from
// another that holds a call with more.
template <class... P>
bool allows_shared(void (*kernel)(P...), int64_t bytes) {
  return bytes <= known_answer(kernel, kMostShared,
                               [&](int* most) { return allow_most_shared(most, kernel); });
}
template <class... P>
int resident(void (*kernel)(P...)) {
  return known_answer(kernel, kResident,
                      [&](int* blocks) { return resident_blocks(blocks, kernel, kThreads, 0); });
}
// Whether the device runs such clusters.
template <class... P>
bool has_room(Cluster cluster, void (*kernel)(P...), int64_t shared_bytes) {
  return known_answer(kernel, shared_bytes * 16 + cluster.blocks, [&](int* clusters) {
           return resident_clusters(clusters, cluster, kernel, kThreads, size_t(shared_bytes));
         }) > 0;
}

// Blocks for `tasks` independent pieces of work: all that are resident at once, or fewer.
template <class... P>
int64_t persistent_blocks(void (*kernel)(P...), int64_t tasks) {
  return larger(1, smaller(tasks, resident(kernel)));
}

}  // namespace
ONEPASS_END
