// maxout: the largest of each group of neighbouring channels.
#include "bind/border.h"

namespace onepass::bind {
namespace {

constexpr Argument kForwardTable[] = {
    {"x", reference, read | dense},
    {"out", shorter, write},
    integer("pieces"),
    axis("axis"),
};
constexpr Argument kBackwardTable[] = {
    {"dy", shorter, read | dense},
    {"x", reference, read | dense | aliased},
    {"out", like_reference, write},
    integer("pieces"),
    axis("axis"),
};
constexpr Contract kMaxout = contract("maxout", kForwardTable);
constexpr Contract kMaxoutBackward = contract("maxout_backward", kBackwardTable);

template <const Contract& kContract>
py::object maxout(Arguments given) {
  constexpr int kDy = kContract.find("dy"), kOut = kContract.position("out");
  constexpr int kPieces = kContract.position("pieces"), kAxis = kContract.position("axis");
  BorderOf<kContract> b(given);
  const int d = b.axis(kAxis);
  const auto along = b.along(d);
  const int64_t pieces = b.integer(kPieces);
  if (pieces < 1 || pieces > INT32_MAX || along.extent % pieces != 0)
    value_error(b.op(), is("pieces", b.given(kPieces)) + ", expected a divisor of " +
                            std::to_string(along.extent) + ", the extent of " + b.first().label() +
                            " along axis " + std::to_string(d));
  b.set_shorter(d, along.extent / pieces, ": one value for each group of pieces");
  AlongClasses call;
  call.outer = along.outer * (along.extent / pieces);
  call.classes = pieces;
  call.inner = along.inner;
  call.dtype = b.first().dtype();
  const Target target = b.check();
  call.x = b.first().data;
  if constexpr (kDy >= 0) call.dy = b.data(kDy);
  call.out = b.data(kOut);
  const Backend& backend = *target.backend;
  b.run(target, kDy >= 0 ? backend.maxout_backward : backend.maxout, &call);
  return b.result(kOut);
}

}  // namespace

void define_maxout(py::module_& m) {
  define(m, kMaxout, &fast<&maxout<kMaxout>>);
  define(m, kMaxoutBackward, &fast<&maxout<kMaxoutBackward>>);
}

}  // namespace onepass::bind
