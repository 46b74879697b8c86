// The list that registers activations: to add one, add its name here. Its position is its index in
// the tables of core/backend.h.
//
// The unit of one formula (cpu/formula.cpp.in) includes only that formula's header; here it needs
// just the names of the others.
#pragma once
#include "core/backend.h"
#include "core/list.h"
#ifndef ONEPASS_FORMULA
#include "kernels/abs.h"
#include "kernels/celu.h"
#include "kernels/elu.h"
#include "kernels/gelu.h"
#include "kernels/hardsigmoid.h"
#include "kernels/hardswish.h"
#include "kernels/hardtanh.h"
#include "kernels/identity.h"
#include "kernels/leaky_relu.h"
#include "kernels/mish.h"
#include "kernels/relu.h"
#include "kernels/relu6.h"
#include "kernels/selu.h"
#include "kernels/sigmoid.h"
#include "kernels/silu.h"
#include "kernels/sin.h"
#include "kernels/softplus.h"
#include "kernels/softsign.h"
#include "kernels/tanh.h"
#endif

ONEPASS_BEGIN

// clang-format off
template <class T> struct Identity;
template <class T> struct Relu;
template <class T> struct LeakyRelu;
template <class T> struct Sigmoid;
template <class T> struct Tanh;
template <class T> struct Gelu;
template <class T> struct GeluTanh;
template <class T> struct Silu;
template <class T> struct Selu;
template <class T> struct Mish;
template <class T> struct Elu;
template <class T> struct Celu;
template <class T> struct Softplus;
template <class T> struct Relu6;
template <class T> struct Hardtanh;
template <class T> struct Hardsigmoid;
template <class T> struct Hardswish;
template <class T> struct Softsign;
template <class T> struct Abs;
template <class T> struct Sin;
// clang-format on

// Identity and Relu keep their places: a norm composes them with its own formula.
using Activations =
    List<Identity, Relu, LeakyRelu, Sigmoid, Tanh, Gelu, GeluTanh, Silu, Selu, Mish, Elu, Celu,
         Softplus, Relu6, Hardtanh, Hardsigmoid, Hardswish, Softsign, Abs, Sin>;

static_assert(index_in<Identity>(Activations{}) == Epilogue::kIdentity &&
                  index_in<Relu>(Activations{}) == Epilogue::kRelu,
              "Identity and Relu have moved");

ONEPASS_END
