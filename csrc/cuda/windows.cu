// Windows over images: im2col and pooling.
#define ONEPASS_ISA cuda
#include "cuda/windows.cuh"

#include "cuda/units.h"

ONEPASS_CUDA_UNIT(windows) {
  using namespace onepass::ONEPASS_ISA;
  backend->im2col = &windows::im2col;
  backend->col2im = &windows::run_windows<windows::Col2im>;
  backend->max_pool2d = &windows::run_windows<windows::MaxPool>;
  backend->max_pool2d_backward = &windows::run_windows<windows::MaxPoolBackward>;
  backend->avg_pool2d = &windows::run_windows<windows::AvgPool>;
  backend->avg_pool2d_backward = &windows::run_windows<windows::AvgPoolBackward>;
}
