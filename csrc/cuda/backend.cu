// The CUDA backend: every driver instantiated for every kernel of kernels/list.h, here those that
// keep subnormal values, in flushed.cu the others. nvcc compiles these files for the library, any
// C++ compiler for the simulator of tests/cuda_sim.
#define ONEPASS_ISA cuda
#include "core/backend.h"

#include "cuda/flushed.h"
#include "cuda/host.h"
#include "cuda/loops.cuh"
#include "cuda/normalise.cuh"
#include "kernels/list.h"

ONEPASS_BEGIN
namespace {

template <template <class> class... A>
Backend make_backend(List<A...>) {
  Backend b{};
  b.name = "cuda";
  int index = 0;
  ((b.activation[index] = &elementwise<Forward<A>::template Kernel, kNoGradient>,
    b.activation_backward[index++] = &elementwise<Backward<A>::template Kernel, kNoGradient>),
   ...);
  b.dropout = &elementwise<Dropout, kNoGradient>;
  b.bias_act = &bias_act<>;
  b.bias_act_backward = &bias_act_backward<>;
  b.elementwise_workspace = &elementwise_workspace;
  b.channelwise_workspace = &channelwise_workspace;
  b.last_error = &last_error;
  b.use_device = &use_device;
  b.host_word = &host_word;
  add_flushed(&b);
  return b;
}

}  // namespace
ONEPASS_END

extern "C" const onepass::Backend* onepass_cuda_backend() {
  static const onepass::Backend backend =
      onepass::ONEPASS_ISA::make_backend(onepass::ONEPASS_ISA::Activations{});
  return &backend;
}
