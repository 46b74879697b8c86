// im2col, its transpose, pooling, and depthwise convolutions.
#include "backend_test.h"

namespace backend_test {
namespace {

// in, out, kernel, stride, dilation, padding before and after
constexpr WindowAxis kPlain[] = {{5, 3, 3, 2, 1, 1, 1}, {7, 4, 2, 2, 1, 1, 0}};
// The last window reaches beyond the image. Averages have no dilation.
constexpr WindowAxis kDilated[] = {{5, 2, 2, 3, 3, 1, 1}, {7, 3, 3, 3, 2, 2, 1}};

void windows(int64_t samples, int64_t channels, bool last, bool dilated, DType d,
             std::string* bits) {
  const WindowAxis* const axes = dilated ? kDilated : kPlain;
  Windows w;
  w.samples = samples;
  w.channels = channels;
  w.rows = axes[0];
  w.columns = axes[1];
  w.channels_last = last;
  w.dtype = d;
  const int64_t image = samples * channels * 35,
                outputs = samples * channels * w.rows.out * w.columns.out;
  const int64_t taps = w.rows.kernel * w.columns.kernel;
  Buffer x(d, image, 1), y(d, outputs, 2), cols(d, outputs * taps, 3), dx(d, image, 4);
  Buffer indices(d == DType::f64 ? DType::f64 : DType::f32, outputs, 5);
  const auto call = [&](const char* name, void (*driver)(const Windows&), Buffer* from,
                        Buffer* to) {
    w.from = from->data();
    w.out = to->data();
    run(name, driver, cuda.depthwise_workspace(w), w);
    to->append_to(bits);
  };
  call("im2col", cuda.im2col, &x, &cols);
  call("col2im", cuda.col2im, &cols, &dx);
  if (!dilated) {
    call("avg_pool2d", cuda.avg_pool2d, &x, &y);
    w.count_padding = false;
    call("avg_pool2d_backward", cuda.avg_pool2d_backward, &y, &dx);
  }
  call("adaptive_avg_pool2d", cuda.adaptive_avg_pool2d, &x, &y);
  call("adaptive_avg_pool2d_backward", cuda.adaptive_avg_pool2d_backward, &y, &dx);
  w.indices = indices.data();
  call("max_pool2d", cuda.max_pool2d, &x, &y);
  indices.append_to(bits);
  call("max_pool2d_backward", cuda.max_pool2d_backward, &y, &dx);
  const DType wide = d == DType::f64 ? d : DType::f32;
  Buffer weight(d, channels * taps, 6), dweight(wide, channels * taps, 7);
  w.weight = weight.vector();
  call("depthwise_conv2d", cuda.depthwise_conv2d, &x, &y);
  call("depthwise_conv2d_backward", cuda.depthwise_conv2d_backward, &y, &dx);
  w.dy = y.data();
  call("depthwise_conv2d_weight_backward", cuda.depthwise_conv2d_weight_backward, &x, &dweight);
}

}  // namespace

void windows_part(std::string* bits) {
  for (const DType d : dtypes())
    for (const bool last : {false, true}) {
      for (const bool dilated : {false, true}) windows(2, 3, last, dilated, d, bits);
      if (!kBrief) windows(3, 37, last, false, d, bits);
    }
}

}  // namespace backend_test
