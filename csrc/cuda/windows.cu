// Windows over images: im2col, pooling and depthwise convolutions.
#define ONEPASS_ISA cuda
#include "cuda/windows.cuh"

#include "cuda/depthwise.cuh"
#include "cuda/im2col.cuh"
#include "cuda/units.h"

ONEPASS_CUDA_UNIT(windows) {
  using namespace onepass::ONEPASS_ISA;
  backend->im2col = &windows::im2col;
  backend->col2im = &windows::run_windows<windows::Col2im>;
  backend->max_pool2d = &windows::run_windows<windows::MaxPool>;
  backend->max_pool2d_backward = &windows::run_windows<windows::MaxPoolBackward>;
  backend->avg_pool2d = &windows::run_windows<windows::AvgPool>;
  backend->avg_pool2d_backward = &windows::run_windows<windows::AvgPoolBackward>;
  backend->adaptive_avg_pool2d = &windows::run_windows<windows::AdaptiveAvgPool>;
  backend->adaptive_avg_pool2d_backward = &windows::run_windows<windows::AdaptiveAvgPoolBackward>;
  backend->depthwise_conv2d = &windows::run_windows<windows::Depthwise>;
  backend->depthwise_conv2d_backward = &windows::run_windows<windows::DepthwiseBackward>;
  backend->depthwise_conv2d_weight_backward = &windows::depthwise_weight_backward;
  backend->depthwise_workspace = &windows::depthwise_workspace;
}
