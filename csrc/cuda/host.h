// Host state that all units share: the first error of each thread, the word in which kernels report
// errors to the host, and what is known of kernels.
#pragma once
#include <cstdint>

namespace onepass {
namespace cuda {

constexpr int kMostDevices = 64;

// Keeps the text, unless an earlier one is unread. The text must stay valid: pass a string literal.
void record_error(const char* text);

// See Backend.
const char* last_error();
int current_device();
uint32_t* host_word(int device);
bool captures(void* stream);

// What the runtime has answered a thread about a kernel (launch.cuh). One table for all units: one
// of each type of kernel would be a hundred for each thread.
struct KnownAnswer {
  const void* kernel;
  int64_t about;
  int device, answer;
};
// The only place where this thread may have such an answer.
KnownAnswer& known_answer_at(const void* kernel, int64_t about);

}  // namespace cuda
}  // namespace onepass
