// im2col, its transpose, and pooling.
#include "backend_test.h"

namespace backend_test {
namespace {

void windows(int64_t samples, int64_t channels, bool last, DType d, std::string* bits) {
  Windows w;
  w.samples = samples;
  w.channels = channels;
  w.rows = {5, 3, 3, 2, 1, 1, 1};     // 5 rows, 3 windows of 3, stride 2, padding 1
  w.columns = {7, 4, 2, 2, 1, 1, 0};  // 7 columns, 4 windows of 2, padding on the left
  w.channels_last = last;
  w.dtype = d;
  const int64_t image = samples * channels * 35, outputs = samples * channels * 12;
  Buffer x(d, image, 1), y(d, outputs, 2), cols(d, outputs * 6, 3), dx(d, image, 4);
  Buffer indices(d == DType::f64 ? DType::f64 : DType::f32, outputs, 5);
  const auto call = [&](const char* name, void (*driver)(const Windows&), Buffer* from,
                        Buffer* to) {
    w.from = from->data();
    w.out = to->data();
    run(name, driver, 0, w);
    to->append_to(bits);
  };
  call("im2col", cuda.im2col, &x, &cols);
  call("col2im", cuda.col2im, &cols, &dx);
  call("avg_pool2d", cuda.avg_pool2d, &x, &y);
  w.count_padding = false;
  call("avg_pool2d_backward", cuda.avg_pool2d_backward, &y, &dx);
  w.indices = indices.data();
  call("max_pool2d", cuda.max_pool2d, &x, &y);
  indices.append_to(bits);
  call("max_pool2d_backward", cuda.max_pool2d_backward, &y, &dx);
}

}  // namespace

void windows_part(std::string* bits) {
  for (const DType d : dtypes())
    for (const bool last : {false, true}) {
      windows(2, 3, last, d, bits);
      if (!kBrief) windows(3, 17, last, d, bits);
    }
}

}  // namespace backend_test
