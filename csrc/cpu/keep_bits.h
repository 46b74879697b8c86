// The keep bits of dropout for the passes of a norm: runs of elements at any offset.
#pragma once
#include "cpu/keep_words.h"

ONEPASS_BEGIN
namespace {

// The keep bits of consecutive runs of elements, shifted so that bit 0 of the first word is the
// first element of the run. Bits are drawn for up to 4096 elements ahead, where they are cheapest,
// but not beyond `end`, after which the caller jumps.
class KeepBits {
 public:
  static constexpr int64_t kLongest = 4 * kBlockElements;  // of a run

  // drawn: all bits of the array and one word more if they exist already, else null.
  KeepBits(DropoutStream random, const uint32_t* drawn) : random_(random), drawn_(drawn) {}

  const uint32_t* at(int64_t element, int64_t n, int64_t end) {
    const int64_t from = element / 32, to = (element + n + 31) / 32;
    if (!drawn_ && (from < first_ || to > last_)) draw(from, to, (end + 31) / 32);
    const uint32_t* words = drawn_ ? drawn_ + from : words_ + (from - first_);
    const uint32_t shift = uint32_t(element % 32);
    return shift == 0 ? words : align(words, shift, (n + 31) / 32);
  }

 private:
  static constexpr int64_t kAhead = 128;

  void draw(int64_t from, int64_t to, int64_t end) {
    const int64_t start = from & ~int64_t(3);  // words come in groups of four
    int64_t kept = 0;
    if (start >= first_ && start < last_) {
      kept = last_ - start;
      for (int64_t i = 0; i < kept; ++i) words_[i] = words_[start - first_ + i];
    }
    int64_t count = end - start - kept;
    count = (count < kAhead ? count + 3 : longest(to - start - kept)) & ~int64_t(3);
    keep_words(words_ + kept, start + kept, count, random_);
    first_ = start;
    last_ = start + kept + count;
    words_[last_ - first_] = 0;
  }
  static int64_t longest(int64_t needed) { return needed < kAhead ? kAhead : needed + 3; }
  const uint32_t* align(const uint32_t* words, uint32_t shift, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      aligned_[i] = words[i] >> shift | words[i + 1] << (32 - shift);
    return aligned_;
  }

  DropoutStream random_;
  const uint32_t* drawn_;
  int64_t first_ = 0, last_ = 0;
  uint32_t words_[2 * kAhead + kLongest / 32 + 8];
  uint32_t aligned_[kLongest / 32 + 1];
};

}  // namespace
ONEPASS_END
