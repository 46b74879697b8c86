// bias_act: a bias per channel and what follows it, forward and backward.
#include "bind/channels.h"

namespace onepass::bind {
namespace {

constexpr Argument kForwardArrays[] = {
    {"x", reference, read | dense | aliased},
    {"bias", per_channel, read},
    {"out", like_reference, write},
    axis("axis"),
};
constexpr auto kBiasActTable = join(kForwardArrays, kEpilogueArguments);
constexpr Contract kBiasAct = contract("bias_act", kBiasActTable.at);

py::object bias_act(Arguments given) {
  ChannelBorder<kBiasAct, Channelwise> b(given);
  b.run([](const Backend& backend) { return backend.bias_act; });
  return b.result(b.kOut);
}

constexpr Argument kBackwardArrays[] = {
    {"dy", like_reference, read | dense | aliased},
    {"x", reference, read | dense | aliased},
    {"bias", per_channel, read},
    {"out", like_reference, write},
    axis("axis"),
};
constexpr Argument kGradients[] = {{"dbias", per_channel, made}};
constexpr auto kBiasActBackwardTable = join(kBackwardArrays, kEpilogueArguments, kGradients);
constexpr Contract kBiasActBackward = contract("bias_act_backward", kBiasActBackwardTable.at);

py::object bias_act_backward(Arguments given) {
  constexpr int kDbias = kBiasActBackward.position("dbias");
  ChannelBorder<kBiasActBackward, Channelwise> b(given);
  b.run([](const Backend& backend) { return backend.bias_act_backward; });
  return py::make_tuple(b.result(b.kOut), b.result(kDbias));
}

}  // namespace

void define_bias_act(py::module_& m) {
  define(m, kBiasAct, &fast<&bias_act>);
  define(m, kBiasActBackward, &fast<&bias_act_backward>);
}

}  // namespace onepass::bind
