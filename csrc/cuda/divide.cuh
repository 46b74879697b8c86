// Quotients of sizes: 64 bits take a GPU about a hundred instructions, 32 bits twenty.
#pragma once
#include "cuda/device.h"

ONEPASS_BEGIN
namespace {

struct Quotient {
  int64_t whole, rest;
};
ONEPASS_DEVICE Quotient divide(int64_t a, int64_t b) {
  if (b == 1) return {a, 0};
  if ((a | b) >> 32) return {a / b, a % b};
  const uint32_t whole = uint32_t(a) / uint32_t(b);
  return {whole, uint32_t(a) - whole * uint32_t(b)};
}

}  // namespace
ONEPASS_END
