// The border of every call over channels: the array as (outer, channels, inner), the arrays that a
// norm or bias takes by their names, and the activation and dropout that follow.
#pragma once
#include "bind/epilogue.h"
#include "bind/norm.h"

namespace onepass::bind {

// Where the channels are. Sets the extents of Shape::channel.
void set_channels(Border* b, Channelwise* call, int axis);

// Sets the fields of a call that its arrays are; a table may lack some. `out` is y forward, and dx
// where there is a dy.
template <const Contract& kContract>
void place_arrays(const BorderOf<kContract>& b, Channelwise* call) {
  constexpr int kOut = kContract.find("out");
  place<kContract.find("x")>(b, &call->x);
  place<kContract.find("residual")>(b, &call->epilogue.residual);
  place<kContract.find("weight")>(b, &call->weight);
  place<kContract.find("dweight")>(b, &call->dweight);
  place<kContract.find("bias")>(b, &call->bias);
  place<kContract.find("dbias")>(b, &call->dbias);
  if constexpr (kContract.find("dy") < 0) {
    place<kOut>(b, &call->y);
  } else {
    place<kContract.find("dy")>(b, &call->dy);
    place<kOut>(b, &call->dx);
    place<kContract.find("dresidual")>(b, &call->dresidual);
    place<kContract.find("add")>(b, &call->add);
  }
}

// A call over channels by its contract.
template <const Contract& kContract, class Call>
class ChannelBorder : public BorderOf<kContract> {
  using Base = BorderOf<kContract>;

 public:
  static constexpr int kOut = kContract.find("out");

  explicit ChannelBorder(Arguments given) : Base(given) {
    constexpr int kAxis = kContract.position("axis");
    constexpr int kActivation = kContract.find("activation");
    set_channels(this, &call, kAxis);
    if constexpr (kActivation >= 0) set_epilogue(*this, &call.epilogue, &options_, kActivation);
  }
  // Checks the arrays, runs the driver of a backend, and stores.
  template <class Choose>
  void run(Choose driver) {
    const Target target = this->check();
    place_arrays(*this, &call);
    if constexpr (std::is_same_v<Call, ChannelNorm>) {
      place_statistics(*this, &call);
      place<kContract.find("share")>(*this, &call.shares);
      place<kContract.find("shares")>(*this, &call.shares);
    }
    Base::run(target, driver(*target.backend), &call);
  }

  Call call{};

 private:
  ActivationOptions options_;
};

}  // namespace onepass::bind
