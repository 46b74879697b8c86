// What csrc/cuda/launch.cuh, device.h and host.cu ask of the runtime, and what they make of
// answers.
#include "cuda/launch.cuh"
#include "stand_in.h"

#include <cstdio>
#include <cstring>
#include <thread>

ONEPASS_BEGIN
namespace {

using stand_in::Runtime;
using stand_in::runtime;

int failures = 0;
#define EXPECT(condition)                                       \
  if (!(condition)) {                                           \
    std::printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
    ++failures;                                                 \
  }

__global__ void first(int) {}
__global__ void second(int) {}
template <int N>
__global__ void numbered(int) {}

constexpr auto kOccupancy = "cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags";

int count(const char* name) {
  int found = 0;
  for (const auto& call : runtime.calls) found += call == name;
  return found;
}
// Whether the last error is that text, or none; nothing of it is left in the runtime.
bool said(const char* text) {
  const char* error = onepass::cuda::last_error();
  if (runtime.last != cudaSuccess) return false;
  return text ? error && !std::strcmp(error, text) : !error;
}
void reset() { runtime = Runtime(); }

void an_answer_is_asked_for_once_by_each_thread_and_device() {
  reset();
  EXPECT(resident(&first) == 264);
  runtime.blocks_of_a_processor = 1;  // not asked
  EXPECT(resident(&first) == 264);
  EXPECT(count(kOccupancy) == 1);
  EXPECT(resident(&second) == 132);
  EXPECT(count(kOccupancy) == 2);
  runtime.device = 1;
  EXPECT(resident(&first) == 132);
  EXPECT(count(kOccupancy) == 3);
  runtime.device = 0;
  runtime.blocks_of_a_processor = 3;
  std::thread([] { EXPECT(resident(&second) == 396); }).join();
  EXPECT(resident(&second) == 132);
  EXPECT(said(nullptr));
}

void questions_in_one_place_do_not_get_each_others_answers() {
  reset();
  for (int round = 0; round < 2; ++round)
    for (int about = 7; about < 7 + 3 * 512; about += 512)
      EXPECT(known_answer(&first, about, [&](int* answer) {
               *answer = about;
               return cudaSuccess;
             }) == about);
}

void a_failed_question_is_asked_again() {
  reset();
  for (const char* fails :
       {"cudaDeviceGetAttribute", "cudaFuncGetAttributes", "cudaFuncSetAttribute"}) {
    runtime.fails = fails;
    EXPECT(!allows_shared(&numbered<0>, 1));
    EXPECT(said("unknown error"));
  }
  EXPECT(allows_shared(&numbered<0>, 1));
  EXPECT(said(nullptr));
  runtime.fails = kOccupancy;
  EXPECT(persistent_blocks(&numbered<0>, 1000) == 1);
  EXPECT(said("unknown error"));
  EXPECT(persistent_blocks(&numbered<0>, 1000) == 264);
}

void a_kernel_may_have_all_shared_memory_but_its_own() {
  reset();
  const int64_t most = 232448 - 1024;
  EXPECT(allows_shared(&numbered<1>, most));
  EXPECT(runtime.allowed_shared == most);
  EXPECT(!allows_shared(&numbered<1>, most + 1));
  EXPECT(allows_shared(&numbered<1>, 5));
  EXPECT(count("cudaFuncSetAttribute") == 1);
  EXPECT(said(nullptr));
}

void clusters_have_room_where_the_code_has_their_barrier() {
  reset();
  const Cluster four{4};
  EXPECT(has_room(four, &numbered<2>, 1000));
  EXPECT(runtime.cluster == 4);
  runtime.resident_clusters = 0;
  EXPECT(has_room(four, &numbered<2>, 1000));   // known
  EXPECT(!has_room(four, &numbered<2>, 2000));  // asked
  EXPECT(!has_room(Cluster{8}, &numbered<2>, 1000));
  runtime.resident_clusters = 16;
  runtime.ptx_version = 80;
  EXPECT(!has_room(four, &numbered<3>, 1000));
  runtime.ptx_version = 90;
  runtime.fails = "cudaOccupancyMaxActiveClusters";  // as a part of a GPU has no such size
  EXPECT(!has_room(four, &numbered<4>, 1000));
  EXPECT(said(nullptr));
}

void a_device_is_described_once() {
  reset();
  runtime.device = 2;
  runtime.fails = "cudaDeviceGetAttribute";
  EXPECT(this_device().most_shared_bytes == 0 && this_device().most_shared_bytes == 232448);
  const int asked = count("cudaDeviceGetAttribute");
  runtime.most_shared = 100;
  EXPECT(this_device().most_shared_bytes == 232448 && this_device().clusters == 1);
  EXPECT(count("cudaDeviceGetAttribute") == asked);
  runtime.device = 3;
  runtime.clusters = 0;
  EXPECT(this_device().most_shared_bytes == 100 && this_device().clusters == 0);
  EXPECT(said(nullptr));
}

void launches_have_what_they_were_given() {
  reset();
  start(&first, 77, nullptr, 5);
  EXPECT(runtime.grid == 77 && runtime.block == kThreads && runtime.shared == 0);
  EXPECT(runtime.cluster == 1 && count("cudaLaunchKernel") == 1);
  start_with<512>(Cluster{8}, 4096, &first, 16, nullptr, 5);
  EXPECT(runtime.grid == 16 && runtime.block == 512 && runtime.shared == 4096);
  EXPECT(runtime.cluster == 8 && count("cudaLaunchKernelExC") == 1);
  EXPECT(said(nullptr));
  for (const unsigned blocks : {1u, 2u}) {
    runtime.fails = blocks == 1 ? "cudaLaunchKernel" : "cudaLaunchKernelExC";
    start_with(Cluster{blocks}, 0, &first, 2, nullptr, 5);
    EXPECT(said("unknown error"));
  }
  runtime.error = cudaErrorNoKernelImageForDevice;
  runtime.fails = "cudaLaunchKernel";
  start(&first, 1, nullptr, 5);
  const char* text = onepass::cuda::last_error();
  EXPECT(text && std::strstr(text, "this build has no code for the GPU"));
}

void a_capture_that_cannot_be_asked_for_is_none() {
  reset();
  EXPECT(!onepass::cuda::captures(nullptr));
  runtime.captures = true;
  EXPECT(onepass::cuda::captures(nullptr));
  runtime.fails = "cudaStreamIsCapturing";
  EXPECT(!onepass::cuda::captures(nullptr));
  EXPECT(said(nullptr));
}

void the_word_of_a_device_is_made_while_a_graph_is_captured() {
  reset();
  runtime.captures = true;
  runtime.fails = "cudaHostAlloc";
  EXPECT(!onepass::cuda::host_word(0));
  EXPECT(said("unknown error"));
  uint32_t* word = onepass::cuda::host_word(0);
  EXPECT(word && *word == 0);
  EXPECT(onepass::cuda::host_word(0) == word);
  EXPECT(count("cudaHostAlloc") == 2);
  auto mode = cudaStreamCaptureModeRelaxed;
  (void)cudaThreadExchangeStreamCaptureMode(&mode);
  EXPECT(mode == cudaStreamCaptureModeGlobal);  // as it was
  EXPECT(said(nullptr));
}

void the_current_device() {
  reset();
  runtime.device = 5;
  EXPECT(onepass::cuda::current_device() == 5);
  runtime.fails = "cudaGetDevice";
  EXPECT(onepass::cuda::current_device() == -1);
  EXPECT(said("unknown error"));
}

int run_all() {
  an_answer_is_asked_for_once_by_each_thread_and_device();
  questions_in_one_place_do_not_get_each_others_answers();
  a_failed_question_is_asked_again();
  a_kernel_may_have_all_shared_memory_but_its_own();
  clusters_have_room_where_the_code_has_their_barrier();
  a_device_is_described_once();
  launches_have_what_they_were_given();
  a_capture_that_cannot_be_asked_for_is_none();
  the_word_of_a_device_is_made_while_a_graph_is_captured();
  the_current_device();
  std::printf(failures ? "%d failures\n" : "fine\n", failures);
  return failures != 0;
}

}  // namespace
ONEPASS_END

int main() { return onepass::ONEPASS_ISA::run_all(); }
