// What bias_act and batch_norm share at the border: the array as (outer, channels, inner), and the
// activation and dropout that follow.
#pragma once
#include "bind/border.h"

namespace onepass::bind {

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

}  // namespace onepass::bind
