// glu: the first half of x times an activation of the second one.
#include "kernels/glu.h"

#include "bind/elementwise.h"
#include "bind/epilogue.h"

namespace onepass::bind {
namespace {

constexpr Argument kForwardTable[] = {
    {"x", reference, read | strided},  text("activation"), options("options"), axis("axis"),
    {"out", shorter, write | strided},
};
constexpr Argument kBackwardTable[] = {
    {"dy", shorter, read | strided},
    {"x", reference, read | aliased | strided},
    text("activation"),
    options("options"),
    axis("axis"),
    {"out", like_reference, write | strided},
};
constexpr Contract kGlu = contract("glu", kForwardTable);
constexpr Contract kGluBackward = contract("glu_backward", kBackwardTable);

// The activation of a call, as the kernels take it.
struct Gate {
  double hyper[1 + host::kGluOptions] = {};

  Gate(const Border& b, int activation) {
    ActivationOptions options{};
    hyper[0] = double(read_activation(b, &options, activation));
    for (int i = 0; i < host::kGluOptions; ++i) hyper[1 + i] = options.values[i];
  }
};

// The halves of an array along an axis. Views into it: it must outlive them.
struct Halves {
  Array first, second;

  Halves(const Array& x, int d) : first(x), second(x) {
    for (int i = 0; i < x.ndim; ++i) shape_[i] = i == d ? x.shape[i] / 2 : x.shape[i];
    first.shape = second.shape = shape_;
    first.c_order = second.c_order = false;
    second.data = static_cast<char*>(second.data) + x.stride(d) * shape_[d];
  }
  Halves(const Halves&) = delete;
  Halves& operator=(const Halves&) = delete;

 private:
  int64_t shape_[kMaxAxes];
};

// The axis; sets the extents of what has half of x along it.
int half_axis(Border* b, int axis) {
  const int d = b->axis(axis);
  const int64_t extent = b->first().shape[d];
  if (extent % 2 != 0)
    value_error(b->op(), b->first().label() + " has shape " + shape_text(b->first()) +
                             ", expected an even extent along axis " + std::to_string(d));
  b->set_shorter(d, extent / 2, ": half of the input along the axis");
  return d;
}

py::object glu(Arguments given) {
  constexpr int kX = kGlu.position("x"), kOut = kGlu.position("out");
  constexpr int kActivation = kGlu.position("activation"), kAxis = kGlu.position("axis");
  BorderOf<kGlu> b(given);
  const Gate gate(b, kActivation);
  const int d = half_axis(&b, kAxis);
  const Target target = b.check();
  const Halves x(b[kX], d);
  const Array* const arrays[] = {&b[kOut], &x.first, &x.second};
  run_tensor(target, arrays, false, gate.hyper, std::size(gate.hyper), kNoDropout,
             [](const Backend& backend) { return backend.glu; });
  b.finish();
  return b.result(kOut);
}

py::object glu_backward(Arguments given) {
  constexpr Contract kContract = kGluBackward;
  constexpr int kDy = kContract.position("dy"), kX = kContract.position("x");
  constexpr int kActivation = kContract.position("activation"), kAxis = kContract.position("axis");
  constexpr int kOut = kContract.position("out");
  BorderOf<kGluBackward> b(given);
  const Gate gate(b, kActivation);
  const int d = half_axis(&b, kAxis);
  const Target target = b.check();
  const Halves x(b[kX], d), dx(b[kOut], d);
  const Array* const arrays[] = {&dx.first, &dx.second, &b[kDy], &x.first, &x.second};
  run_tensor(target, arrays, false, gate.hyper, std::size(gate.hyper), kNoDropout,
             [](const Backend& backend) { return backend.glu_backward; });
  b.finish();
  return b.result(kOut);
}

}  // namespace

void define_glu(py::module_& m) {
  define(m, kGlu, &fast<&glu>);
  define(m, kGluBackward, &fast<&glu_backward>);
}

}  // namespace onepass::bind
