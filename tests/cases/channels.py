"""bias_act: a bias per channel, then what can be fused behind it; also what the norms fuse."""

from __future__ import annotations

import numpy as np
from onepass import _C, ops

from ._case import (
    Case,
    Steps,
    backward_only,
    forward_and_backward,
    functional,
    fused,
    gradients,
    has_torch,
    normal,
    summed,
    tensor_of,
    total,
    vector,
    without_grad,
)
from .activations import ACTIVATIONS, formula
from .dropout import dropout, dropout_mask, dropout_scale


def per_channel(v, ndim, axis):
    """A vector of channels, shaped to broadcast along `axis` of an array of `ndim` axes."""
    shape = [1] * ndim
    shape[axis] = -1
    return np.reshape(v, shape)


def epilogue(z, activation, dropout_p, seed, offset, first):
    record, options = formula(activation)
    y = record.reference(z, **options)
    return dropout(y, dropout_p, seed=seed, offset=offset, first=first)


def epilogue_backward(dy, z, activation, dropout_p, seed, offset, first):
    record, options = formula(activation)
    da = dropout(dy, dropout_p, seed=seed, offset=offset, first=first)
    return record.reference_backward(da, z, **options)


def bias_act(x, bias, *, axis=1, activation=None, dropout_p=0.0, seed=0, offset=0, first=0):
    z = x + per_channel(bias, x.ndim, axis)
    return epilogue(z, activation, dropout_p, seed, offset, first)


def bias_act_backward(
    dy, x, bias, *, axis=1, activation=None, dropout_p=0.0, seed=0, offset=0, first=0
):
    z = x + per_channel(bias, x.ndim, axis)
    dx = epilogue_backward(dy, z, activation, dropout_p, seed, offset, first)
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    return dx, total(dx, others)


def torch_epilogue(z, activation=None, dropout_p=0.0, seed=0, offset=0, first=0):
    """The same on tensors, with our mask."""
    record, options = formula(activation)
    z = record.torch.call(z, **options)
    mask = dropout_mask(tuple(z.shape), dropout_p, seed=seed, offset=offset, first=first)
    keep = tensor_of(mask)
    return (z * dropout_scale(dropout_p)).where(keep, 0.0)


def rival_epilogue(z, activation=None, dropout_p=0.0, **_):
    """The same with PyTorch's own dropout, for the benchmark."""
    record, options = formula(activation)
    z = z if activation is None else record.torch.call(z, **options)
    return functional.dropout(z, dropout_p) if dropout_p else z


# How exact that is. A bias or a norm stands before it.
ADDED = Steps([("x + bias", 1)])
DROPPED = Steps([("dropout's scale and its product", 2)])
FORWARD = [record.forward for record in ACTIVATIONS]
BACKWARD = [record.backward for record in ACTIVATIONS]

# --------------------------------------------------------------------------------- what is fused


def _epilogues():
    """No activation, then kernels of activations, dropout of some rate beside most.

    ReLU has loops of its own. Others are called alike, so of those without options one in three is
    enough; test_gradients.py has them all.
    """
    known = [kernel["name"] for kernel in _C.kernels() if kernel["kind"] == "activation"]
    yield None
    alike = [r for r in ACTIVATIONS if r.name != "relu" and not any(f.options for f in r.forms)]
    left_out = [record for i, record in enumerate(alike) if i % 3]
    for record in (record for record in ACTIVATIONS if record not in left_out):
        chosen = {record.kernel(form, known): form.options for form in record.forms}
        for options in chosen.values():
            if record.name != "identity":
                yield (record.name, options) if options else record.name


DROPS = [
    {},
    {},
    {"dropout_p": 0.3, "seed": 5},
    {"dropout_p": 0.1, "seed": 2**40, "first": 96},
    {},
    {"dropout_p": 0.5, "seed": 6, "offset": 9, "first": 2**36 + 1003},
]
EPILOGUES = [
    ({} if activation is None else {"activation": activation}) | DROPS[i % len(DROPS)]
    for i, activation in enumerate(_epilogues())
]

# ------------------------------------------------------------------------------------------- rows

CHANNEL_SHAPES = [(1, 1), (4, 3), (33, 17), (2, 1025), (65, 129), (1, 5), (0, 3), (2, 3, 7, 7)]
CHANNEL_SHAPES += [(2, 5, 1, 1), (3, 16, 9), (2, 17, 33), (1031, 67), (2, 3, 2, 3, 2)]
CHANNEL_BENCH = [(256, 1024), (4096, 512), (32, 64, 56, 56)]


def _torch_bias_act(x, bias, axis=1, **tail):
    return torch_epilogue(x + per_channel_tensor(bias, x.ndim, axis), **tail)


def per_channel_tensor(v, ndim, axis):
    shape = [1] * ndim
    shape[axis] = -1
    return v.reshape(shape)


def _make(rng, shape, dtype, axis=1, **_):
    return normal(rng, shape, dtype, 2), vector(rng, shape[axis], dtype, -1, 1)


def _make_backward(rng, shape, dtype, axis=1, **_):
    return (normal(rng, shape, dtype), *_make(rng, shape, dtype, axis))


def _rival(bias, axis=1, **tail):
    return lambda x: rival_epilogue(x + per_channel_tensor(bias, x.ndim, axis), **tail)


def _rivals(inputs, keywords):
    if not has_torch():
        return {}
    x, bias = map(tensor_of, inputs)
    return {"torch": without_grad(_rival(bias, **keywords), x)}


def _rivals_backward(inputs, keywords):
    if not has_torch():
        return {}
    dy, x, bias = inputs
    leaf = tensor_of(bias).requires_grad_()
    return {"torch": backward_only(_rival(leaf, **keywords), [leaf], x, dy)}


def _both(inputs, keywords):
    dy, x, bias = inputs

    def ours():  # makes new results, as all rivals do
        ops.bias_act(x, bias, **keywords)
        return ops.bias_act_backward(dy, x, bias, **keywords)

    functions = {"onepass": ours}
    if has_torch():
        leaf = tensor_of(bias).requires_grad_()
        functions["torch"] = forward_and_backward(_rival(leaf, **keywords), [leaf], x, dy)
    return functions


def rows():
    options = [*EPILOGUES, {"axis": -1, "activation": "relu"}, {"axis": 0, "activation": "tanh"}]
    bench = {"activation": "gelu", "dropout_p": 0.1, "seed": 1}
    yield Case(
        "bias_act",
        "channels",
        ops.bias_act,
        _make,
        bias_act,
        _torch_bias_act,
        fused(ADDED, FORWARD, DROPPED),
        lambda s: 2 * s,
        CHANNEL_SHAPES,
        CHANNEL_BENCH,
        _rivals,
        options,
        bench,
        out=True,
        alias=(0,),
    )
    yield Case(
        "bias_act_backward",
        "channels",
        ops.bias_act_backward,
        _make_backward,
        bias_act_backward,
        lambda dy, x, bias, **o: gradients(_torch_bias_act(x, bias, **o), dy, [x, bias]),
        summed(fused(ADDED, BACKWARD, DROPPED)),
        lambda s: 3 * s,
        CHANNEL_SHAPES,
        CHANNEL_BENCH,
        _rivals_backward,
        options,
        bench,
        out=True,
        alias=(0,),
        both=_both,
    )
