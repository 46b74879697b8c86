// Elements between memory and registers. A unit is W neighbouring elements that one thread moves at
// once: 16 bytes of the computing type, or 8 elements if all operands have 16 bits. fetch() loads a
// unit as it lies in memory and decode() converts it later, so that the loads of all operands are
// in flight before the first is needed. Each operand's storage type is a run-time value.
#pragma once
#include "core/backend.h"
#include "core/dtype.h"
#include "core/hd.h"
#include "core/sizes.h"
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

// The conversions of core/dtype.h, by one instruction where there is one. On a GPU a NaN has one
// pattern once it is computed with or narrowed; a bfloat16 NaN is widened as it is.
ONEPASS_DEVICE float float_of(Half x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
#else
  return to_float(x);
#endif
}
ONEPASS_DEVICE float float_of(BFloat16 x) {
#ifdef __CUDA_ARCH__
  return math::from_bits(uint32_t(x.bits) << 16);
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
ONEPASS_DEVICE BFloat16 bfloat16_of(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  BFloat16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
#else
  return from_float<BFloat16>(x);
#endif
}
// Two values as neighbours in memory.
ONEPASS_DEVICE uint32_t half_pair(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return half_of(low).bits | uint32_t(half_of(high).bits) << 16;
#endif
}
ONEPASS_DEVICE uint32_t bfloat16_pair(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return bfloat16_of(low).bits | uint32_t(bfloat16_of(high).bits) << 16;
#endif
}

template <class T>
ONEPASS_DEVICE T load_element(Memory m, int64_t at) {
  if constexpr (sizeof(T) == 8) {
    return load_value(reinterpret_cast<const double*>(m.data) + at);
  } else {
    if (m.dtype == DType::f32) return load_value(reinterpret_cast<const float*>(m.data) + at);
    const uint16_t bits = load_value(reinterpret_cast<const uint16_t*>(m.data) + at);
    return m.dtype == DType::f16 ? float_of(Half{bits}) : float_of(BFloat16{bits});
  }
}
template <class T>
ONEPASS_DEVICE void store_element(Memory m, int64_t at, T value) {
  if constexpr (sizeof(T) == 8) {
    store_value(reinterpret_cast<double*>(m.data) + at, value);
  } else if (m.dtype == DType::f32) {
    store_value(reinterpret_cast<float*>(m.data) + at, value);
  } else {
    store_value(reinterpret_cast<uint16_t*>(m.data) + at,
                m.dtype == DType::f16 ? half_of(value).bits : bfloat16_of(value).bits);
  }
}
// A value per channel, of any dtype.
ONEPASS_DEVICE double load_wide(Memory m, int64_t at, double otherwise) {
  if (!m.data) return otherwise;
  return m.dtype == DType::f64 ? load_element<double>(m, at) : double(load_element<float>(m, at));
}
ONEPASS_DEVICE double value_of(const DeviceNumber& number) {
  return load_wide(memory(number.data, number.dtype), 0, 0);
}
ONEPASS_DEVICE void store_wide(Memory m, int64_t at, double value) {
  if (!m.data) return;
  switch (m.dtype) {
    case DType::f64:
      return store_element<double>(m, at, value);
    case DType::f32:
      return store_value(reinterpret_cast<float*>(m.data) + at, float(value));
    case DType::f16:
      return store_value(reinterpret_cast<uint16_t*>(m.data) + at, half_of(float(value)).bits);
    case DType::bf16:
      return store_value(reinterpret_cast<uint16_t*>(m.data) + at, bfloat16_of(float(value)).bits);
  }
}

// `at` is a multiple of W from an address aligned to the unit's bytes; W = 1: any.
template <int W, class T>
ONEPASS_DEVICE Raw fetch(Memory m, int64_t at) {
  Raw raw{};
  if constexpr (W == 1) {
    if constexpr (sizeof(T) == 8) {
      const uint64_t bits = load_value(reinterpret_cast<const uint64_t*>(m.data) + at);
      raw[0] = uint32_t(bits);
      raw[1] = uint32_t(bits >> 32);
    } else if (m.dtype == DType::f32) {
      raw[0] = load_value(reinterpret_cast<const uint32_t*>(m.data) + at);
    } else {
      raw[0] = load_value(reinterpret_cast<const uint16_t*>(m.data) + at);
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
      for (int k = 0; k < W; ++k) v[k] = float_of(BFloat16{uint16_t(raw[k / 2] >> (16 * (k % 2)))});
    }
  }
}

template <int W, class T>
ONEPASS_DEVICE void load_unit(Memory m, int64_t at, T* v) {
  decode<W, T>(fetch<W, T>(m, at), m.dtype, v);
}

template <bool kStreaming, class T, int N>
ONEPASS_DEVICE void store_pack_as(T* address, const Pack<T, N>& pack) {
  if constexpr (kStreaming) {
    store_pack_streaming(address, pack);
  } else {
    store_pack(address, pack);
  }
}
// kStreaming: nothing reads it again soon.
template <int W, class T, bool kStreaming = false>
ONEPASS_DEVICE void store_unit(Memory m, int64_t at, const T* v) {
  if constexpr (W == 1) {
    store_element<T>(m, at, v[0]);
  } else if constexpr (sizeof(T) == 8) {
    const Pack<uint64_t, 2> pack{{math::to_bits(v[0]), math::to_bits(v[1])}};
    store_pack_as<kStreaming>(reinterpret_cast<uint64_t*>(m.data) + at, pack);
  } else {
    if constexpr (W == 4) {
      if (m.dtype == DType::f32) {
        const Pack<uint32_t, 4> pack{
            {math::to_bits(v[0]), math::to_bits(v[1]), math::to_bits(v[2]), math::to_bits(v[3])}};
        return store_pack_as<kStreaming>(reinterpret_cast<uint32_t*>(m.data) + at, pack);
      }
    }
    Pack<uint32_t, W / 2> pack;
    if (m.dtype == DType::f16) {
      ONEPASS_UNROLL
      for (int k = 0; k < W / 2; ++k) pack[k] = half_pair(v[2 * k], v[2 * k + 1]);
    } else {
      ONEPASS_UNROLL
      for (int k = 0; k < W / 2; ++k) pack[k] = bfloat16_pair(v[2 * k], v[2 * k + 1]);
    }
    store_pack_as<kStreaming>(reinterpret_cast<uint32_t*>(m.data + at * 2), pack);
  }
}

// Whether units of W elements that start at the array's start can be moved as packs.
inline bool is_aligned(const void* data, DType dtype, int width) {
  return reinterpret_cast<uintptr_t>(data) % uintptr_t(width * size_of(dtype)) == 0;
}

}  // namespace
ONEPASS_END
