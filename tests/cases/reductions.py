"""The global norm of a list, and clipping by it."""

from __future__ import annotations

import math

import numpy as np
from onepass import ops

from ._case import (
    BENCH,
    SHAPES,
    Case,
    Tolerance,
    has_torch,
    quiet,
    tensor_of,
    tensors,
    torch,
)


@quiet
def global_norm(arrays, ord=2):
    flat = np.concatenate([np.ravel(a) for a in arrays] or [np.zeros(0)])
    if ord == 1:
        return np.abs(flat).sum()
    if ord == 2:
        return np.sqrt((flat**2).sum())
    return np.abs(flat).max() if flat.size else 0.0


def clip(grads, *, grad_scale=None, max_value=None, max_norm=None):
    """Gradients as the update sees them, and the norm that is reported (after unscaling only)."""
    grads = [None if g is None else g / (1.0 if grad_scale is None else grad_scale) for g in grads]
    norm = global_norm([g for g in grads if g is not None])
    if max_value is not None:
        grads = [None if g is None else np.clip(g, -max_value, max_value) for g in grads]
    if max_norm is not None:
        total = global_norm([g for g in grads if g is not None])
        coefficient = np.minimum(1.0, max_norm / (total + 1e-6))  # NaN stays NaN
        grads = [None if g is None else g * coefficient for g in grads]
    return grads, norm


def _torch(arrays, ord=2):
    return torch.nn.utils.get_total_norm([a for a in arrays if a.numel()] or [torch.zeros(1)], ord)


def _rivals(inputs, keywords):
    if not has_torch():
        return {}
    arrays = tensor_of(inputs[0])
    return {"torch": lambda: torch.nn.utils.get_total_norm(arrays, keywords.get("ord", 2))}


def rows():
    yield Case(
        "global_norm",
        "reduction",
        ops.global_norm,
        lambda rng, shape, dtype, **_: (tensors(rng, shape, dtype),),
        lambda arrays, **o: np.asarray(global_norm(arrays, **o)),
        _torch,
        Tolerance(0.5, why="squares in the computing type, partial sums, then double", sums=8),
        lambda s: s,
        SHAPES,
        BENCH,
        _rivals,
        [{}, {"ord": 1}, {"ord": math.inf}],
    )
