// The border of every call over channels: the array as (outer, channels, inner), the arrays that a
// norm or bias takes by their names, and the activation and dropout that follow.
#pragma once
#include "bind/epilogue.h"

namespace onepass::bind {

// Where the channels are. Sets the extents of Shape::channel.
void set_channels(Border* b, Channelwise* call, int axis);

// A call over channels by its contract. `out` is y forward, and dx where there is a dy.
template <const Contract& kContract, class Call>
class ChannelBorder : public BorderOf<kContract> {
  using Base = BorderOf<kContract>;

 public:
  static constexpr int kOut = kContract.position("out");

  explicit ChannelBorder(Arguments given) : Base(given) {
    constexpr int kAxis = kContract.position("axis");
    constexpr int kActivation = kContract.position("activation");
    set_channels(this, &call, kAxis);
    set_epilogue(*this, &call.epilogue, &options_, kActivation);
  }
  // Checks the arrays, runs the driver of a backend, and stores.
  template <class Choose>
  void run(Choose driver) {
    const Target target = this->check();
    place<kContract.find("x")>(*this, &call.x);
    place<kContract.find("residual")>(*this, &call.epilogue.residual);
    place<kContract.find("weight")>(*this, &call.weight);
    place<kContract.find("dweight")>(*this, &call.dweight);
    place<kContract.find("bias")>(*this, &call.bias);
    place<kContract.find("dbias")>(*this, &call.dbias);
    if constexpr (kContract.find("dy") < 0) {
      place<kOut>(*this, &call.y);
    } else {
      place<kContract.find("dy")>(*this, &call.dy);
      place<kOut>(*this, &call.dx);
      place<kContract.find("dresidual")>(*this, &call.dresidual);
    }
    if constexpr (std::is_same_v<Call, ChannelNorm>) {
      place<kContract.find("running_mean")>(*this, &call.running_mean);
      place<kContract.find("running_var")>(*this, &call.running_var);
      place<kContract.find("statistics")>(*this, &call.saved);
    }
    Base::run(target, driver(*target.backend), &call);
  }

  Call call{};

 private:
  ActivationOptions options_;
};

}  // namespace onepass::bind
