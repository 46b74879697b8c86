// The CUDA backend: every driver instantiated for every kernel of kernels/list.h. nvcc compiles
// this file for the library, any C++ compiler for the simulator of tests/cuda_sim.
#include "core/backend.h"

#include "cuda/loops.cuh"
#include "cuda/normalise.cuh"
#include "cuda/reduce.cuh"
#include "cuda/rows.cuh"
#include "kernels/list.h"

ONEPASS_BEGIN
namespace {

template <template <class> class... A, template <class> class... U>
constexpr Backend make_backend(List<A...>, List<U...>) {
  return {"cuda",
          {&elementwise<Forward<A>::template Kernel, kNoGradient>...},
          {&elementwise<Backward<A>::template Kernel, kNoGradient>...},
          {&elementwise<U, kGradientOperand>...},
          &elementwise<Dropout, kNoGradient>,
          &norm,
          &bias_act,
          &bias_act_backward,
          &batch_norm,
          &batch_norm_backward,
          &cross_entropy,
          &elementwise_workspace,
          &norm_workspace,
          &channelwise_workspace,
          &cross_entropy_workspace,
          &last_error,
          &use_device,
          &host_word};
}

constexpr Backend kBackend = make_backend(Activations{}, Updates{});

}  // namespace
ONEPASS_END

extern "C" const onepass::Backend* onepass_cuda_backend() {
  return &onepass::ONEPASS_ISA::kBackend;
}
