// The activation and dropout that follow a norm or a bias, in the same call.
#pragma once
#include "bind/border.h"

namespace onepass::bind {

// The arguments of every such call after its arrays.
constexpr Argument kEpilogueArguments[] = {
    text("activation"), options("options"), number("dropout_p", 0, 1),
    word("seed"),       word("offset"),     word("first"),
};

// The activation's options, in memory that lives as long as the call. Each activation has a
// contract, in which they are arguments, so none has more.
struct ActivationOptions {
  double values[Contract::kMostArguments];
};

// Reads an activation and its options, two arguments from `activation` on; gives its index.
int32_t read_activation(const Border& b, ActivationOptions* options, int activation);

// Reads kEpilogueArguments, which begin at `activation`.
void set_epilogue(Border& b, Epilogue* epilogue, ActivationOptions* options, int activation);

}  // namespace onepass::bind
