// The border of every call over channels: the array as (outer, channels, inner), the arrays that a
// norm or bias takes by their names, and the activation and dropout that follow.
#pragma once
#include "bind/border.h"

namespace onepass::bind {

// The arguments of every such call after its arrays.
constexpr Argument kEpilogueArguments[] = {
    text("activation"), options("options"), number("dropout_p", 0, 1), word("seed"), word("offset"),
};

// Where the channels are. Sets the extents of Shape::channel.
void set_channels(Border* b, Channelwise* call, int axis);

// The activation's options, in memory that lives as long as the call.
struct ActivationOptions {
  static constexpr int kMost = 8;
  double values[kMost];
};

// Reads the activation, its options, and dropout's p, seed and offset: five arguments from
// `activation` on.
void set_epilogue(const Border& b, Epilogue* epilogue, ActivationOptions* options, int activation);

// A call over channels by its contract. `out` is y forward, and dx where there is a dy.
template <const Contract& kContract, class Call>
class ChannelBorder : public BorderOf<kContract> {
  using Base = BorderOf<kContract>;

 public:
  static constexpr int kOut = kContract.find("out"), kAxis = kContract.find("axis");
  static constexpr int kActivation = kContract.find("activation");

  explicit ChannelBorder(Arguments given) : Base(given) {
    set_channels(this, &call, kAxis);
    set_epilogue(*this, &call.epilogue, &options_, kActivation);
  }
  // Checks the arrays, runs the driver of a backend, and stores.
  template <class Choose>
  void run(Choose driver) {
    const Target target = this->check();
    place<kContract.find("x")>(&call.x);
    place<kContract.find("residual")>(&call.epilogue.residual);
    place<kContract.find("weight")>(&call.weight);
    place<kContract.find("dweight")>(&call.dweight);
    place<kContract.find("bias")>(&call.bias);
    place<kContract.find("dbias")>(&call.dbias);
    if constexpr (kContract.find("dy") < 0) {
      place<kOut>(&call.y);
    } else {
      place<kContract.find("dy")>(&call.dy);
      place<kOut>(&call.dx);
      place<kContract.find("dresidual")>(&call.dresidual);
    }
    if constexpr (std::is_same_v<Call, ChannelNorm>) {
      place<kContract.find("running_mean")>(&call.running_mean);
      place<kContract.find("running_var")>(&call.running_var);
      place<kContract.find("statistics")>(&call.saved);
    }
    Base::run(target, driver(*target.backend), &call);
  }

  Call call{};

 private:
  template <int i, class Pointer>
  void place(Pointer* to) {
    if constexpr (i >= 0) *to = this->data(i);
  }
  template <int i>
  void place(ChannelVector* to) {
    if constexpr (i >= 0) *to = this->vector(i);
  }

  ActivationOptions options_;
};

}  // namespace onepass::bind
