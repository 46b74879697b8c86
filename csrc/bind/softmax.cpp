// softmax and log_softmax along any axis, and their gradients.
#include "bind/border.h"

namespace onepass::bind {
namespace {

constexpr Argument kForwardTable[] = {
    {"x", reference, read | dense | aliased},
    {"out", like_reference, write},
    axis("axis"),
};
constexpr Argument kBackwardTable[] = {
    {"dy", like_reference, read | dense | aliased | pattern},
    {"y", reference, read | dense | aliased},
    {"out", like_reference, write},
    axis("axis"),
};
constexpr Contract kSoftmax = contract("softmax", kForwardTable);
constexpr Contract kLogSoftmax = contract("log_softmax", kForwardTable);
constexpr Contract kSoftmaxBackward = contract("softmax_backward", kBackwardTable);
constexpr Contract kLogSoftmaxBackward = contract("log_softmax_backward", kBackwardTable);

template <const Contract& kContract, bool kLogarithm>
py::object softmax(Arguments given) {
  constexpr int kDy = kContract.find("dy"), kOut = kContract.position("out");
  BorderOf<kContract> b(given);
  const auto along = b.along(b.axis(kContract.position("axis")));
  AlongClasses call;
  call.outer = along.outer;
  call.classes = along.extent;
  call.inner = along.inner;
  call.dtype = b.first().dtype();
  call.logarithm = kLogarithm;
  const Target target = b.check();
  call.x = b.first().data;
  if constexpr (kDy >= 0) call.dy = b.data(kDy);
  call.out = b.data(kOut);
  const Backend& backend = *target.backend;
  b.run(target, kDy >= 0 ? backend.softmax_backward : backend.softmax, &call);
  return b.result(kOut);
}

}  // namespace

void define_softmax(py::module_& m) {
  define(m, kSoftmax, &fast<&softmax<kSoftmax, false>>);
  define(m, kLogSoftmax, &fast<&softmax<kLogSoftmax, true>>);
  define(m, kSoftmaxBackward, &fast<&softmax<kSoftmaxBackward, false>>);
  define(m, kLogSoftmaxBackward, &fast<&softmax<kLogSoftmaxBackward, true>>);
}

}  // namespace onepass::bind
