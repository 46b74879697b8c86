// Softmax, log-softmax and maxout.
#include "backend_test.h"

namespace backend_test {
namespace {

// In place or not; forward, then backward.
void along_classes(int64_t outer, int64_t classes, int64_t inner, DType d, bool in_place,
                   std::string* bits) {
  const int64_t n = outer * classes * inner;
  Buffer x(d, n, 1, in_place), y(d, n, 2, in_place), dy(d, n, 3, in_place);
  AlongClasses call;
  call.outer = outer;
  call.classes = classes;
  call.inner = inner;
  call.dtype = d;
  call.logarithm = in_place;
  call.x = x.data();
  call.out = in_place ? x.data() : y.data();
  run("softmax", cuda.softmax, 0, call);
  call.x = call.out;
  call.dy = dy.data();
  call.out = in_place ? dy.data() : x.data();
  run("softmax_backward", cuda.softmax_backward, 0, call);
  call.dy = nullptr;
  call.x = y.data();
  call.out = dy.data();
  run("maxout", cuda.maxout, 0, call);
  call.dy = dy.data();
  call.out = in_place ? y.data() : x.data();
  run("maxout_backward", cuda.maxout_backward, 0, call);
  for (const Buffer* each : {&x, &y, &dy}) each->append_to(bits);
}

}  // namespace

void softmax_part(std::string* bits) {
  for (const DType d : dtypes())
    for (const bool in_place : {false, true}) {
      along_classes(5, 33, 1, d, in_place, bits);
      along_classes(3, 1029, 1, d, in_place, bits);
      along_classes(2, 5, 7, d, in_place, bits);
    }
  for (const int64_t classes : {701, 9001, 17003})  // of a warp, of a block, and read twice
    if (!kBrief || classes == 701) along_classes(2, classes, 1, DType::f32, classes == 9001, bits);
  if (!kBrief) along_classes(2, 9004, 1, DType::bf16, false, bits);
  if (!kBrief) along_classes(2, 70004, 1, DType::f32, false, bits);
}

}  // namespace backend_test
