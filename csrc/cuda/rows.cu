// Kernels along the classes: softmax, log-softmax, maxout.
#include "cuda/flushed.h"

#include "cuda/maxout.cuh"
#include "cuda/softmax.cuh"
#include "cuda/units.h"

ONEPASS_CUDA_UNIT(rows) {
  using namespace onepass::ONEPASS_ISA;
  backend->softmax = &softmax;
  backend->softmax_backward = &softmax;
  backend->maxout = &maxout;
  backend->maxout_backward = &maxout;
}
