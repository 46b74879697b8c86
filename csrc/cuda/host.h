// Host state that all units share: a thread's first error, the current device, and the word that a
// kernel can write for the host.
#pragma once
#include <cstdint>

namespace onepass {
namespace cuda {

// Keeps the text, a string literal or one that is never freed, unless an earlier one is unread.
void record_error(const char* text);

// See Backend.
const char* last_error();
int use_device(int device);
uint32_t* host_word(int device);

}  // namespace cuda
}  // namespace onepass
