// Elements between memory and registers. A unit is W neighbouring elements that one thread moves at
// once: 16 bytes of the computing type, or 8 elements where all operands have 16 bits. It is
// fetched as it lies in memory and decoded later, so that the loads of all operands are under way
// before the first is waited for. The storage type is looked up at run time, per operand.
#pragma once
#include "core/backend.h"
#include "core/dtype.h"
#include "core/hd.h"
#include "cuda/device.h"

ONEPASS_BEGIN
namespace {

using namespace ::onepass::cuda;  // device.h, host.h

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;

template <class T>
constexpr int kUnit = 16 / int(sizeof(T));

using Raw = Pack<uint32_t, 4>;

struct Memory {
  char* data;
  DType dtype;
};
ONEPASS_HD Memory memory(const void* data, DType dtype) {
  return {static_cast<char*>(const_cast<void*>(data)), dtype};
}
ONEPASS_HD Memory memory(const ChannelVector& v) { return memory(v.data, v.dtype); }

ONEPASS_HD constexpr int lane_of(unsigned thread) { return int(thread % kWarpSize); }
ONEPASS_HD constexpr int warp_of(unsigned thread) { return int(thread / kWarpSize); }
ONEPASS_HD constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
ONEPASS_HD constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
ONEPASS_HD constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The conversions of core/dtype.h, by one instruction where there is one; on a GPU a NaN has one
// pattern only.
ONEPASS_DEVICE float float_of(Half x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
#else
  return to_float(x);
#endif
}
ONEPASS_DEVICE Half half_of(float x) {
#ifdef __CUDA_ARCH__
  Half y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
#else
  return from_float<Half>(x);
#endif
}

template <class T>
ONEPASS_DEVICE T load_element(Memory m, int64_t at) {
  if constexpr (sizeof(T) == 8) {
    return reinterpret_cast<const double*>(m.data)[at];
  } else {
    if (m.dtype == DType::f32) return reinterpret_cast<const float*>(m.data)[at];
    const uint16_t bits = reinterpret_cast<const uint16_t*>(m.data)[at];
    return m.dtype == DType::f16 ? float_of(Half{bits}) : to_float(BFloat16{bits});
  }
}
template <class T>
ONEPASS_DEVICE void store_element(Memory m, int64_t at, T value) {
  if constexpr (sizeof(T) == 8) {
    reinterpret_cast<double*>(m.data)[at] = value;
  } else if (m.dtype == DType::f32) {
    reinterpret_cast<float*>(m.data)[at] = value;
  } else {
    reinterpret_cast<uint16_t*>(m.data)[at] =
        m.dtype == DType::f16 ? half_of(value).bits : from_float<BFloat16>(value).bits;
  }
}
// Of any dtype, for what is one value a channel.
ONEPASS_DEVICE double load_wide(Memory m, int64_t at, double otherwise) {
  if (!m.data) return otherwise;
  return m.dtype == DType::f64 ? load_element<double>(m, at) : double(load_element<float>(m, at));
}
ONEPASS_DEVICE void store_wide(Memory m, int64_t at, double value) {
  if (!m.data) return;
  switch (m.dtype) {
    case DType::f64:
      return store_element<double>(m, at, value);
    case DType::f32:
      reinterpret_cast<float*>(m.data)[at] = float(value);
      return;
    case DType::f16:
      reinterpret_cast<uint16_t*>(m.data)[at] = half_of(float(value)).bits;
      return;
    case DType::bf16:
      reinterpret_cast<uint16_t*>(m.data)[at] = from_float<BFloat16>(float(value)).bits;
  }
}

// `at` is a multiple of W from an address aligned to the unit's bytes; W = 1: any.
template <int W, class T>
ONEPASS_DEVICE Raw fetch(Memory m, int64_t at) {
  Raw raw{};
  if constexpr (W == 1) {
    if constexpr (sizeof(T) == 8) {
      const uint64_t bits = reinterpret_cast<const uint64_t*>(m.data)[at];
      raw[0] = uint32_t(bits);
      raw[1] = uint32_t(bits >> 32);
    } else if (m.dtype == DType::f32) {
      raw[0] = reinterpret_cast<const uint32_t*>(m.data)[at];
    } else {
      raw[0] = reinterpret_cast<const uint16_t*>(m.data)[at];
    }
  } else if constexpr (sizeof(T) == 8) {
    raw = load_pack<4>(reinterpret_cast<const uint32_t*>(m.data + at * 8));
  } else if constexpr (W == 8) {
    raw = load_pack<4>(reinterpret_cast<const uint32_t*>(m.data + at * 2));
  } else if (m.dtype == DType::f32) {
    raw = load_pack<4>(reinterpret_cast<const uint32_t*>(m.data + at * 4));
  } else {
    const auto half = load_pack<2>(reinterpret_cast<const uint32_t*>(m.data + at * 2));
    raw[0] = half[0];
    raw[1] = half[1];
  }
  return raw;
}

template <int W, class T>
ONEPASS_DEVICE void decode(const Raw& raw, DType dtype, T* v) {
  if constexpr (sizeof(T) == 8) {
    ONEPASS_UNROLL
    for (int k = 0; k < W; ++k) v[k] = math::from_bits(uint64_t(raw[2 * k + 1]) << 32 | raw[2 * k]);
  } else {
    if constexpr (W <= 4) {
      if (dtype == DType::f32) {
        ONEPASS_UNROLL
        for (int k = 0; k < W; ++k) v[k] = math::from_bits(raw[k]);
        return;
      }
    }
    if (dtype == DType::f16) {
      ONEPASS_UNROLL
      for (int k = 0; k < W; ++k) v[k] = float_of(Half{uint16_t(raw[k / 2] >> (16 * (k % 2)))});
    } else {
      ONEPASS_UNROLL
      for (int k = 0; k < W; ++k) v[k] = to_float(BFloat16{uint16_t(raw[k / 2] >> (16 * (k % 2)))});
    }
  }
}

template <int W, class T>
ONEPASS_DEVICE void load_unit(Memory m, int64_t at, T* v) {
  decode<W, T>(fetch<W, T>(m, at), m.dtype, v);
}

template <int W>
ONEPASS_DEVICE void store_halves(Memory m, int64_t at, const uint16_t* halves) {
  Pack<uint32_t, W / 2> pack;
  ONEPASS_UNROLL
  for (int k = 0; k < W / 2; ++k) pack[k] = halves[2 * k] | uint32_t(halves[2 * k + 1]) << 16;
  store_pack(reinterpret_cast<uint32_t*>(m.data + at * 2), pack);
}
template <int W, class T>
ONEPASS_DEVICE void store_unit(Memory m, int64_t at, const T* v) {
  if constexpr (W == 1) {
    store_element<T>(m, at, v[0]);
  } else if constexpr (sizeof(T) == 8) {
    const Pack<uint64_t, 2> pack{{math::to_bits(v[0]), math::to_bits(v[1])}};
    store_pack(reinterpret_cast<uint64_t*>(m.data) + at, pack);
  } else {
    if constexpr (W == 4) {
      if (m.dtype == DType::f32) {
        const Pack<uint32_t, 4> pack{
            {math::to_bits(v[0]), math::to_bits(v[1]), math::to_bits(v[2]), math::to_bits(v[3])}};
        return store_pack(reinterpret_cast<uint32_t*>(m.data) + at, pack);
      }
    }
    uint16_t halves[W];
    if (m.dtype == DType::f16) {
      ONEPASS_UNROLL
      for (int k = 0; k < W; ++k) halves[k] = half_of(v[k]).bits;
    } else {
      ONEPASS_UNROLL
      for (int k = 0; k < W; ++k) halves[k] = from_float<BFloat16>(v[k]).bits;
    }
    store_halves<W>(m, at, halves);
  }
}

// Whether units of W elements that start at the array's start can be moved as packs.
inline bool is_aligned(const void* data, DType dtype, int width) {
  return reinterpret_cast<uintptr_t>(data) % uintptr_t(width * size_of(dtype)) == 0;
}

// ---- sums over threads, in an order that depends on nothing but the number of threads

struct Plus {
  template <class T>
  ONEPASS_DEVICE T operator()(T a, T b) const {
    return a + b;
  }
};
struct Larger {  // NaN wins
  template <class T>
  ONEPASS_DEVICE T operator()(T a, T b) const {
    return b > a || b != b ? b : a;
  }
};
struct Least {
  template <class T>
  ONEPASS_DEVICE T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
template <class T, class Op>
ONEPASS_DEVICE T warp_fold(T value, Op op) {
  ONEPASS_UNROLL
  for (int bit = 1; bit < kWarpSize; bit *= 2)
    value = op(value, warp_shuffle_xor(kFullWarp, value, bit));
  return value;
}
// Every thread of a block of kThreads gets the result. `parts` holds kWarps values.
template <class T, class Op>
ONEPASS_DEVICE T block_fold(T value, Op op, T* parts) {
  value = warp_fold(value, op);
  block_sync();  // somebody may still read the parts of the fold before
  if (lane_of(threadIdx.x) == 0) parts[warp_of(threadIdx.x)] = value;
  block_sync();
  value = parts[0];
  ONEPASS_UNROLL
  for (int w = 1; w < kWarps; ++w) value = op(value, parts[w]);
  return value;
}

// Whether this block is the last of the launch to come here; then it sees what the others had
// written by then. `ticket` is zero before the launch and after it.
ONEPASS_DEVICE bool is_last_block(uint32_t* ticket) {
  ONEPASS_SHARED(bool, is_last);
  block_sync();
  if (threadIdx.x == 0) {
    fence();
    is_last = atomic_ticket(ticket, gridDim.x - 1) == gridDim.x - 1;
    fence();
  }
  block_sync();
  return is_last;
}

// ---- dropout bits

// keep_word of word first_word + lane, for all lanes of a warp together; first_word is a multiple
// of four. Four neighbouring lanes hold the four words of a group: each draws another plane of it,
// and they trade, so that no bit is drawn twice.
ONEPASS_DEVICE uint32_t keep_word_of_lane(DropoutStream s, int64_t first_word) {
  if (s.threshold >> 32) return 0;
  const int lane = lane_of(threadIdx.x), j = lane % 4;
  const uint64_t g = uint64_t(first_word + lane) >> 2;
  uint32_t below = 0, equal = ~uint32_t(0), t = uint32_t(s.threshold);
  for (uint32_t k = 0; t != 0 && warp_any(kFullWarp, equal != 0); k += 4) {
    const Philox4 c = dropout_plane(s, g, k + uint32_t(j));
    // sent[i] is for the lane whose number differs in the bits of i, as is what comes back.
    const uint32_t a = j & 1 ? c.y : c.x, b = j & 1 ? c.x : c.y;
    const uint32_t d = j & 1 ? c.w : c.z, e = j & 1 ? c.z : c.w;
    const uint32_t sent[4] = {j & 2 ? d : a, j & 2 ? e : b, j & 2 ? a : d, j & 2 ? b : e};
    uint32_t got[4];
    got[0] = sent[0];
    ONEPASS_UNROLL
    for (int i = 1; i < 4; ++i) got[i] = warp_shuffle_xor(kFullWarp, sent[i], i);
    const uint32_t p = j & 1 ? got[1] : got[0], q = j & 1 ? got[0] : got[1];
    const uint32_t u = j & 1 ? got[3] : got[2], v = j & 1 ? got[2] : got[3];
    const uint32_t plane[4] = {j & 2 ? u : p, j & 2 ? v : q, j & 2 ? p : u, j & 2 ? q : v};
    ONEPASS_UNROLL
    for (int i = 0; i < 4; ++i, t <<= 1) {  // beyond the last bit of the threshold t is 0
      const uint32_t bit = t >> 31 ? ~uint32_t(0) : 0u;
      below |= equal & ~plane[i] & bit;
      equal &= ~(plane[i] ^ bit);
    }
  }
  return ~below;
}

}  // namespace
ONEPASS_END
