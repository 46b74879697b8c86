// Writes the keep bits of dropout to an array: one byte or one bit an element. Tasks are
// independent and cut by size alone.
#pragma once
#include "core/backend.h"
#include "cpu/keep_words.h"
#include "cpu/parallel.h"

ONEPASS_BEGIN
namespace {
namespace mask {

constexpr int64_t kWords = 128;        // drawn at a time
constexpr int64_t kChunk = 16 * 1024;  // elements of a task: a multiple of 32 * kWords

void expand(const uint32_t* words, int64_t n, uint8_t* out) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const uint32_t word = words[i / 32];
#pragma GCC ivdep
    for (int l = 0; l < 32; ++l) out[i + l] = uint8_t((word >> l) & 1);
  }
  for (; i < n; ++i) out[i] = uint8_t((words[i / 32] >> (i % 32)) & 1);
}

// Bits past the last element stay 0.
void pack(const uint32_t* words, int64_t n, uint8_t* out) {
  int64_t b = 0;
  for (; 8 * b + 32 <= n; b += 4) {
    const uint32_t word = words[b / 4];
    for (int j = 0; j < 4; ++j) out[b + j] = uint8_t(word >> (8 * j));
  }
  for (; 8 * b < n; ++b) {
    const int64_t left = n - 8 * b;
    const uint32_t valid = left < 8 ? (1u << left) - 1 : 0xffu;
    out[b] = uint8_t(words[b / 4] >> (b % 4 * 8) & valid);
  }
}

void task(void* context, int64_t index) {
  const DropoutMask& call = *static_cast<const DropoutMask*>(context);
  uint32_t words[kWords];
  const int64_t begin = index * kChunk, left = call.elements - begin;
  const int64_t end = begin + (left < kChunk ? left : kChunk);
  for (int64_t at = begin; at < end; at += 32 * kWords) {
    const int64_t n = end - at < 32 * kWords ? end - at : 32 * kWords;
    keep_words(words, at / 32, (n + 31) / 32, call.random);
    if (call.packed) {
      pack(words, n, call.out + at / 8);
    } else {
      expand(words, n, call.out + at);
    }
  }
}

}  // namespace mask

void dropout_mask(const DropoutMask& call) {
  DropoutMask copy = call;
  parallel_for((call.elements + mask::kChunk - 1) / mask::kChunk, &mask::task, &copy);
}

}  // namespace
ONEPASS_END
