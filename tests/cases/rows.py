"""Kernels along an axis: softmax, log-softmax, maxout; and glu, which halves one."""

from __future__ import annotations

import numpy as np
from onepass import ops

from ._case import (
    EXACT,
    Case,
    Derived,
    Tolerance,
    backward_only,
    functional,
    gradients,
    has_torch,
    normal,
    quiet,
    tensor_of,
    torch,
    without_grad,
)
from ._rounding import Rounded, derived
from .activations import BY_NAME, formula

# ---------------------------------------------------------------------------------------- softmax


@derived
@quiet
def softmax(x, axis=-1):
    if x.size == 0:
        return Rounded(x)
    e = np.exp(Rounded(x) - x.max(axis=axis, keepdims=True))
    return e * (1.0 / e.sum(axis=axis, keepdims=True))


@derived
@quiet
def log_softmax(x, axis=-1):
    if x.size == 0:
        return Rounded(x)
    shifted = Rounded(x) - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


@derived
@quiet
def softmax_backward(dy, y, axis=-1):
    if y.size == 0:
        return Rounded(y)
    return Rounded(y) * (dy - (Rounded(dy) * y).sum(axis=axis, keepdims=True))


@derived
@quiet
def log_softmax_backward(dy, y, axis=-1):
    if y.size == 0:
        return Rounded(y)
    return dy - np.exp(Rounded(y)) * Rounded(dy).sum(axis=axis, keepdims=True)


SHAPES = [(1, 1), (0, 3), (3, 0), (17, 10), (5, 33), (7, 1023), (3, 65), (2, 3, 4, 5), (3, 2500)]
SHAPES += [(3, 260), (2, 9001), (2, 17003)]  # on a GPU, of a warp, of a block, and read twice
BENCH = [(64, 10), (256, 1000), (8192, 1024), (512, 4096)]
AXES = [{}, {"axis": 0}, {"axis": -2}]


def _softmax_rows(name, reference, backward):
    def call(x, axis):
        return getattr(functional, name)(x, axis)

    def make(rng, shape, dtype, **_):
        return (normal(rng, shape, dtype, 3),)

    yield Case(
        name,
        "rows",
        getattr(ops, name),
        make,
        reference,
        lambda x, axis=-1: call(x, axis),
        Derived(),
        lambda s: 2 * s,
        SHAPES,
        BENCH,
        lambda inputs, keywords: (
            {"torch": without_grad(call, tensor_of(inputs[0]), -1)} if has_torch() else {}
        ),
        AXES,
        out=True,
        alias=(0,),
    )

    def make_backward(rng, shape, dtype, axis=-1, **_):
        y = np.asarray(reference(normal(rng, shape, np.float64, 3), axis=axis))
        return normal(rng, shape, dtype), y.astype(dtype)

    yield Case(
        f"{name}_backward",
        "rows",
        getattr(ops, f"{name}_backward"),
        make_backward,
        backward,
        lambda dy, y, axis=-1: getattr(torch, f"_{name}_backward_data")(dy, y, axis, y.dtype),
        Derived(),
        lambda s: 3 * s,
        SHAPES,
        BENCH,
        lambda inputs, keywords: (
            {"torch": _gradient(name, *map(tensor_of, inputs))} if has_torch() else {}
        ),
        AXES,
        out=True,
        alias=(0, 1),
    )


def _gradient(name, dy, y):
    return lambda: getattr(torch, f"_{name}_backward_data")(dy, y, -1, y.dtype)


# ----------------------------------------------------------------------------------------- maxout


def _pieces(x, pieces, axis):
    """x with an axis of pieces behind that of the channels."""
    axis %= x.ndim
    return x.reshape(*x.shape[:axis], x.shape[axis] // pieces, pieces, *x.shape[axis + 1 :])


def maxout(x, pieces=2, axis=1):
    return _pieces(x, pieces, axis).max(axis=axis % x.ndim + 1)


def maxout_backward(dy, x, pieces=2, axis=1):
    behind = axis % x.ndim + 1
    split = _pieces(x, pieces, axis)
    first = np.expand_dims(split.argmax(axis=behind), behind)
    dx = np.zeros_like(split)
    np.put_along_axis(dx, first, np.expand_dims(dy, behind), behind)
    return dx.reshape(x.shape)


def _torch_maxout(x, pieces=2, axis=1):
    return _pieces(x, pieces, axis).max(dim=axis % x.ndim + 1).values


PIECES = [{"pieces": 2}, {"pieces": 3, "axis": 0}, {"pieces": 6, "axis": 1}]
MAXOUT_SHAPES = [(6, 6), (3, 12), (6, 60, 7), (9, 1026), (3, 18, 5, 5), (6, 0)]


def _maxout_rows():
    yield Case(
        "maxout",
        "rows",
        lambda x, pieces=2, axis=1, **more: ops.maxout(x, pieces, axis, **more),
        lambda rng, shape, dtype, **_: (normal(rng, shape, dtype),),
        maxout,
        _torch_maxout,
        EXACT,
        lambda s: 1.5 * s,
        MAXOUT_SHAPES,
        [(256, 1024), (4096, 1024)],
        lambda inputs, keywords: (
            {"torch": without_grad(_torch_maxout, tensor_of(inputs[0]))} if has_torch() else {}
        ),
        PIECES,
        {"pieces": 2},
        out=True,
    )
    yield Case(
        "maxout_backward",
        "rows",
        lambda dy, x, pieces=2, axis=1, **more: ops.maxout_backward(dy, x, pieces, axis, **more),
        lambda rng, shape, dtype, pieces=2, axis=1, **_: (
            normal(rng, maxout(np.zeros(shape), pieces, axis).shape, dtype),
            normal(rng, shape, dtype),
        ),
        maxout_backward,
        lambda dy, x, **o: gradients(_torch_maxout(x, **o), dy, [x])[0],
        EXACT,
        lambda s: 2.5 * s,
        MAXOUT_SHAPES,
        [(256, 1024), (4096, 1024)],
        lambda inputs, keywords: (
            {"torch": backward_only(_torch_maxout, [], inputs[1], inputs[0])} if has_torch() else {}
        ),
        PIECES,
        {"pieces": 2},
        out=True,
        alias=(1,),
    )


# -------------------------------------------------------------------------------------------- glu


def _halves(x, axis):
    return np.split(x, 2, axis=axis)


def glu(x, axis=-1, activation="sigmoid"):
    a, b = _halves(x, axis)
    record, options = formula(activation)
    return a * record.reference(b, **options)


def glu_backward(dy, x, axis=-1, activation="sigmoid"):
    a, b = _halves(x, axis)
    record, options = formula(activation)
    gate = dy * record.reference(b, **options)
    return np.concatenate([gate, record.reference_backward(dy * a, b, **options)], axis=axis)


def _torch_glu(x, axis=-1, activation="sigmoid"):
    a, b = x.chunk(2, axis)
    record, options = formula(activation)
    return a * record.torch.call(b, **options)


GATES = [
    {},
    {"axis": 0, "activation": "silu"},
    {"activation": "relu"},
    {"axis": 1, "activation": ("softplus", {"beta": 3.0, "threshold": 5.0})},
]
GLU_SHAPES = [(2, 2), (4, 6), (6, 34), (2, 66, 6), (4, 6, 2, 8), (2, 2050), (130, 18), (0, 4)]
_own = [BY_NAME[name] for name in ("sigmoid", "silu", "relu", "softplus")]


def _gated(bounds):
    """A product more than the activation's own; what cancels there is times a, up to 4."""
    return Tolerance(
        max(bound.rel for bound in bounds) + 1,
        4 * max(bound.peak for bound in bounds),
        why="the activation's own bound, the product with a and that with dy (2); a is up to 4",
        sums=2,
    )


def _glu_rows():
    yield Case(
        "glu",
        "rows",
        ops.glu,
        lambda rng, shape, dtype, **_: (normal(rng, shape, dtype, 2),),
        glu,
        _torch_glu,
        _gated([record.forward for record in _own]),
        lambda s: 1.5 * s,
        GLU_SHAPES,
        [(256, 2048), (4096, 2048)],
        lambda inputs, keywords: (
            {"torch": without_grad(functional.glu, tensor_of(inputs[0]))} if has_torch() else {}
        ),
        GATES,
        out=True,
    )
    yield Case(
        "glu_backward",
        "rows",
        ops.glu_backward,
        lambda rng, shape, dtype, axis=-1, **_: (
            normal(rng, glu(np.zeros(shape), axis).shape, dtype),
            normal(rng, shape, dtype, 2),
        ),
        glu_backward,
        lambda dy, x, **o: gradients(_torch_glu(x, **o), dy, [x])[0],
        _gated([record.backward for record in _own]),
        lambda s: 2.5 * s,
        GLU_SHAPES,
        [(256, 2048), (4096, 2048)],
        lambda inputs, keywords: (
            {"torch": backward_only(functional.glu, [], inputs[1], inputs[0])}
            if has_torch()
            else {}
        ),
        GATES,
        out=True,
        alias=(1,),
    )


def rows():
    yield from _softmax_rows("softmax", softmax, softmax_backward)
    yield from _softmax_rows("log_softmax", log_softmax, log_softmax_backward)
    yield from _maxout_rows()
    yield from _glu_rows()
