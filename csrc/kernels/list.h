// THE registration: a kernel exists when its name is in one of these lists. Its position is its
// index in the tables of core/backend.h; identity must stay first.
#pragma once
#include "core/rule.h"
#include "kernels/adam.h"
#include "kernels/dropout.h"
#include "kernels/gelu.h"
#include "kernels/identity.h"
#include "kernels/leaky_relu.h"
#include "kernels/relu.h"
#include "kernels/rmsprop.h"
#include "kernels/sgd.h"
#include "kernels/sigmoid.h"
#include "kernels/silu.h"
#include "kernels/tanh.h"

ONEPASS_BEGIN

template <template <class> class... K>
struct List {};

using Activations = List<Identity, Relu, LeakyRelu, Sigmoid, Tanh, Gelu, GeluTanh, Silu>;
using Updates = Rules<Sgd, Adam, AdamW, Rmsprop>;

ONEPASS_END
