// What the backend knows on the host, one for all its units: the first error of a thread, the
// current device, and the word that a kernel can write for the host.
#pragma once
#include <cstdint>

namespace onepass {
namespace cuda {

// Keeps the text, which lives on, unless an earlier one has not been asked for.
void record_error(const char* text);

// See Backend.
const char* last_error();
int use_device(int device);
uint32_t* host_word(int device);

}  // namespace cuda
}  // namespace onepass
