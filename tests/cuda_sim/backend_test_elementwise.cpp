// Activations, glu and dropout.
#include "backend_test.h"
#include "kernels/activation_list.h"

namespace backend_test {

void elementwise(const char* name, Run<Elementwise> function, int arity, DType dtype,
                 std::vector<double> hyper, const GradientRider& rider, std::string* bits,
                 int64_t lists, bool measures, int64_t repeat) {
  const int64_t sizes[] = {37, 1061, 5, 60};
  const int64_t shape[] = {6, 10}, strides[] = {1, 6};
  std::vector<std::vector<Operand>> operands;
  std::vector<Buffer> buffers;
  std::vector<Tensor> tensors;
  for (int64_t t = 0; t < 4 * lists; ++t) {
    operands.emplace_back();
    for (int o = 0; o < arity; ++o) {
      const bool state = o > 1 && arity > 3;
      buffers.emplace_back(state ? computing(dtype) : dtype, sizes[t % 4], unsigned(31 * t + o),
                           t % 4 == 0 ? 1 : 0);
      if (o >= 3)  // every state but the first; roots are taken of some
        for (int64_t i = 0; i < sizes[t % 4]; ++i) buffers.back().set(i, 0.25);
      operands.back().push_back(buffers.back().operand(t % 4 == 3 && o == 0 ? strides : nullptr));
    }
  }
  for (int64_t t = 0; t < 4 * lists; ++t) {
    tensors.push_back(tensor_of(sizes[t % 4], computing(dtype), operands[size_t(t)], shape));
    tensors.back().parameter = t;
  }
  Elementwise call = call_on(tensors, hyper);
  call.random = {7, 9, uint64_t(1) << 30, repeat == 33 ? 0 : 77 * repeat};
  call.repeat = repeat;
  call.rider = rider;
  std::vector<double> norms(tensors.size() * 2, 2.0);  // of rules that read or write them
  call.norms = norms.data();
  call.norm_count = 2;
  const int64_t bytes = measures ? cuda.measure_workspace(call) : cuda.elementwise_workspace(call);
  run(name, function, bytes, call);
  for (const Buffer& b : buffers) b.append_to(bits);
  bits->append(reinterpret_cast<const char*>(norms.data()), norms.size() * sizeof(double));
}

void elementwise_part(std::string* bits) {
  for (const DType d : dtypes()) {
    for (int k = 0; k < count_of(onepass::cuda::Activations{}); ++k) {
      if (!cuda.activation[k]) continue;
      elementwise("activation", cuda.activation[k], 2, d, kOptions, kPlain, bits);
      elementwise("backward", cuda.activation_backward[k], 3, d, kOptions, kPlain, bits);
      if (cuda.activation_backward_y[k])
        elementwise("backward_y", cuda.activation_backward_y[k], 3, d, kOptions, kPlain, bits);
      const std::vector<double> gate = {double(k), 0.5, 0.75};
      elementwise("glu", cuda.glu, 3, d, gate, kPlain, bits);
      elementwise("glu_backward", cuda.glu_backward, 5, d, gate, kPlain, bits);
    }
    for (const int64_t repeat : {1, 2, 33, 1000}) {
      const auto drop = [&](const char* name, Run<Elementwise> function) {
        elementwise(name, function, 2, d, {}, kPlain, bits, 1, false, repeat);
      };
      drop("dropout", cuda.dropout);
      if (kBrief && repeat != 33) continue;
      drop("alpha", cuda.alpha_dropout);
      drop("alpha backward", cuda.alpha_dropout_backward);
    }
  }
}

// Bits and bytes, some behind an unaligned address, of whole warps and parts of them.
void masks_part(std::string* bits) {
  for (const int64_t n : {1, 31, 1021, 1024, 3 * 8192 + 37})
    for (const bool packed : {false, true})
      for (const int lead : {0, 1, 4}) {
        if (kBrief && lead != int(packed)) continue;
        const int64_t bytes = packed ? (n + 7) / 8 : n;
        std::vector<uint8_t> out(size_t(bytes + lead));
        DropoutMask call;
        call.out = out.data() + lead;
        call.elements = n;
        call.random = {7, 9, uint64_t(1) << 30};
        call.packed = packed;
        run("dropout_mask", cuda.dropout_mask, 0, call);
        bits->append(out.begin(), out.end());
      }
}

}  // namespace backend_test
