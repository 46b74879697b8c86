// States of 8 bits (core/codes.h) from and to float32, for states that are loaded from elsewhere.
#include "core/codes.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <string>

#include "bind/fast.h"
#include "bind/messages.h"

namespace onepass::bind {
namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Bytes = py::array_t<uint8_t, py::array::c_style>;

template <bool kSigned>
void encode(const float* values, int64_t size, uint8_t* codes, float* scales) {
  constexpr uint32_t kNearest = 0x8000;
  for (int64_t begin = 0; begin < size; begin += kCodeBlock) {
    const int64_t end = std::min(begin + kCodeBlock, size);
    uint32_t most = 0;
    for (int64_t i = begin; i < end; ++i) most = std::max(most, host::magnitude_bits(values[i]));
    const host::BlockScale<kSigned> block(most);
    scales[begin / kCodeBlock] = block.scale;
    for (int64_t i = begin; i < end; ++i) codes[i] = block.code(values[i], kNearest);
  }
}
template <bool kSigned>
void decode(const uint8_t* codes, const float* scales, int64_t size, float* values) {
  for (int64_t i = 0; i < size; ++i)
    values[i] = host::from_code<kSigned>(codes[i]) * host::unit_of<kSigned>(scales[i / kCodeBlock]);
}

Bytes codes_of(const Floats& values, bool is_signed) {
  const int64_t size = values.size();
  Bytes made(coded_bytes(size));
  uint8_t* codes = made.mutable_data();
  std::fill(codes, codes + coded_bytes(size), uint8_t(0));
  float* scales = reinterpret_cast<float*>(codes + scales_at(size));
  is_signed ? encode<true>(values.data(), size, codes, scales)
            : encode<false>(values.data(), size, codes, scales);
  return made;
}
Floats values_of(const Bytes& codes, const Floats& scales, bool is_signed) {
  if (scales.size() != code_blocks(codes.size()))
    value_error("values_of", "'scales' has " + std::to_string(scales.size()) +
                                 " values, expected one for each 256 codes");
  Floats made(codes.size());
  is_signed ? decode<true>(codes.data(), scales.data(), codes.size(), made.mutable_data())
            : decode<false>(codes.data(), scales.data(), codes.size(), made.mutable_data());
  return made;
}

}  // namespace

void define_codes(py::module_& m) {
  m.def("codes_of", &codes_of, py::arg("values"), py::arg("is_signed"), py::pos_only());
  m.def("values_of", &values_of, py::arg("codes"), py::arg("scales"), py::arg("is_signed"),
        py::pos_only());
  m.attr("CODE_BLOCK") = kCodeBlock;
  m.def("code_blocks", &code_blocks, py::arg("size"), py::pos_only());
  m.def("scales_at", &scales_at, py::arg("size"), py::pos_only());
  m.def("coded_bytes", &coded_bytes, py::arg("size"), py::pos_only());
}

}  // namespace onepass::bind
