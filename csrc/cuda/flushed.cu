// flushed.h: compiled by nvcc with --ftz=true, run by the simulator under FlushDenormals. That is
// float32's alone: subnormal float64 values stay what they are on a GPU. An activation behind a
// batch norm flushes too, where the CPU's does not; neither shows in a result that is not
// subnormal.
#define ONEPASS_ISA cuda_flushed
#define ONEPASS_FLUSHED
#include "cuda/flushed.h"

#include "cuda/loops.cuh"
#include "cuda/normalise.cuh"
#include "cuda/reduce.cuh"
#include "cuda/rows.cuh"
#include "kernels/list.h"

ONEPASS_BEGIN
namespace {

void add_updates(Backend* backend) {
  int index = 0;
  for_each_variant(Updates{}, [&](auto, auto variant) {
    backend->update[index++] = &elementwise<decltype(variant)::template Kernel, kGradientOperand>;
  });
}

}  // namespace
ONEPASS_END

void onepass::cuda::add_flushed(Backend* backend) {
  using namespace onepass::ONEPASS_ISA;
  add_updates(backend);
  backend->norm = &norm;
  backend->batch_norm = &batch_norm<>;
  backend->batch_norm_backward = &batch_norm_backward<>;
  backend->cross_entropy = &cross_entropy;
  backend->norm_workspace = &norm_workspace;
  backend->cross_entropy_workspace = &cross_entropy_workspace;
}
