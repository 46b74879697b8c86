// bias_act: a bias per channel and what follows it, forward and backward.
#include "bind/channels.h"

namespace onepass::bind {
namespace {

constexpr Argument kBiasActTable[] = {
    {"x", reference, read | dense | aliased},
    {"bias", per_channel, read},
    {"out", like_reference, write},
    axis("axis"),
    text("activation"),
    options("options"),
    number("dropout_p", 0, 1),
    word("seed"),
    word("offset"),
};
constexpr Contract kBiasAct = contract("bias_act", kBiasActTable);

py::object bias_act(Arguments given) {
  enum { kX, kBias, kOut, kAxis, kActivation };
  BorderOf<kBiasAct> b(given);
  Channelwise call{};
  ActivationOptions room;
  set_channels(&b, &call, kAxis);
  set_epilogue(b, &call.epilogue, &room, kActivation);
  const Target target = b.check();
  call.bias = b.vector(kBias);
  call.x = b.data(kX);
  call.y = b.data(kOut);
  b.run(target, target.backend->bias_act, &call);
  return b.result(kOut);
}

constexpr Argument kBiasActBackwardTable[] = {
    {"dy", like_reference, read | dense | aliased},
    {"x", reference, read | dense | aliased},
    {"bias", per_channel, read},
    {"out", like_reference, write},
    axis("axis"),
    text("activation"),
    options("options"),
    number("dropout_p", 0, 1),
    word("seed"),
    word("offset"),
    {"dbias", per_channel, made},
};
constexpr Contract kBiasActBackward = contract("bias_act_backward", kBiasActBackwardTable);

py::object bias_act_backward(Arguments given) {
  enum { kDy, kX, kBias, kDx, kAxis, kActivation, kDbias = 10 };
  BorderOf<kBiasActBackward> b(given);
  Channelwise call{};
  ActivationOptions room;
  set_channels(&b, &call, kAxis);
  set_epilogue(b, &call.epilogue, &room, kActivation);
  const Target target = b.check();
  call.bias = b.vector(kBias);
  call.dbias = b.vector(kDbias);
  call.x = b.data(kX);
  call.dy = b.data(kDy);
  call.dx = b.data(kDx);
  b.run(target, target.backend->bias_act_backward, &call);
  return py::make_tuple(b.result(kDx), b.result(kDbias));
}

}  // namespace

void define_bias_act(py::module_& m) {
  define(m, kBiasAct, &fast<&bias_act>);
  define(m, kBiasActBackward, &fast<&bias_act_backward>);
}

}  // namespace onepass::bind
