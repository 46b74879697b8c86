// THE registration of activations: one exists when its name is in this list. Its position is its
// index in the tables of core/backend.h.
#pragma once
#include "core/backend.h"
#include "core/list.h"
#include "kernels/activation.h"
#include "kernels/gelu.h"
#include "kernels/identity.h"
#include "kernels/leaky_relu.h"
#include "kernels/mish.h"
#include "kernels/relu.h"
#include "kernels/selu.h"
#include "kernels/sigmoid.h"
#include "kernels/silu.h"
#include "kernels/tanh.h"

ONEPASS_BEGIN

// Identity and Relu keep their places: a norm composes them with its own formula.
using Activations =
    List<Identity, Relu, LeakyRelu, Sigmoid, Tanh, Gelu, GeluTanh, Silu, Selu, Mish>;

static_assert(count_of(Activations{}) < kMaxKernels, "raise kMaxKernels (core/backend.h)");

static_assert(index_in<Identity>(Activations{}) == Epilogue::kIdentity &&
                  index_in<Relu>(Activations{}) == Epilogue::kRelu,
              "Identity and Relu have moved");

ONEPASS_END
