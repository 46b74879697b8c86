// Host state that all units share: the first error of each thread, and the word in which kernels
// report errors to the host.
#pragma once
#include <cstdint>

namespace onepass {
namespace cuda {

// Keeps the text, unless an earlier one is unread. The text must stay valid: pass a string literal.
void record_error(const char* text);

// See Backend.
const char* last_error();
int current_device();
uint32_t* host_word(int device);
bool captures(void* stream);

}  // namespace cuda
}  // namespace onepass
