"""onepass inside `jax.jit`: differentiable functions, and optimizers whose update is one call.

>>> import jax
>>> import numpy as np
>>> import onepass.jax
>>> params = onepass.jax.flat({"w": np.ones(2, np.float32)})
>>> optimizer = onepass.jax.adamw(lr=0.1)
>>> state = optimizer.init(params)
>>> def loss(tree, x):
...     return onepass.jax.gelu(tree["w"] * x).sum()
>>> @jax.jit
... def step(params, state, x):
...     grads = jax.grad(loss)(params.unflatten(), x)
...     return onepass.jax.apply(grads, params, state)
>>> params, state = step(params, state, np.float32([1, 2]))
>>> params.unflatten()["w"].round(2).tolist()
[0.8999999761581421, 0.8999999761581421]

The functions run on the CPU: on arrays of a GPU they fail and say so. The kernels are handed to XLA
at the first call. Under `jax.shard_map` each device calls them on its shard; without it XLA gathers
a sharded array first, as for any custom call.
"""

from __future__ import annotations

try:
    import jax as _jax  # noqa: F401
except ImportError as error:
    raise ImportError(
        "onepass.jax needs JAX, which cannot be imported: pip install jax. Arrays of other "
        "libraries are trained with onepass.optim"
    ) from error

from onepass.jax._elementwise import (
    abs,
    celu,
    dropout,
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    hardtanh,
    identity,
    leaky_relu,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    sin,
    softplus,
    softsign,
    tanh,
)
from onepass.jax._flat import FlatParams, flat
from onepass.jax._loss import cross_entropy
from onepass.jax._norms import batch_norm, bias_act, layer_norm, rms_norm
from onepass.jax._optimizers import (
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    ademamix,
    adopt,
    asgd,
    lamb,
    lars,
    lion,
    muon,
    nadam,
    radam,
    rmsprop,
    rprop,
    schedulefreeadamw,
    schedulefreesgd,
    sgd,
)
from onepass.jax._schedule_free import schedule_free_eval_params
from onepass.jax._step import OptimizerState, apply, global_norm

__all__ = [
    "FlatParams",
    "OptimizerState",
    "abs",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "ademamix",
    "adopt",
    "apply",
    "asgd",
    "batch_norm",
    "bias_act",
    "celu",
    "cross_entropy",
    "dropout",
    "elu",
    "flat",
    "gelu",
    "global_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "identity",
    "lamb",
    "lars",
    "layer_norm",
    "leaky_relu",
    "lion",
    "mish",
    "muon",
    "nadam",
    "radam",
    "relu",
    "relu6",
    "rms_norm",
    "rmsprop",
    "rprop",
    "schedule_free_eval_params",
    "schedulefreeadamw",
    "schedulefreesgd",
    "selu",
    "sgd",
    "sigmoid",
    "silu",
    "sin",
    "softplus",
    "softsign",
    "tanh",
]
