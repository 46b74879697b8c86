"""Batch norms over shares of a batch, one for each rank, by the calls that each rank makes."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from helpers import assert_all_same
from onepass import _C
from onepass.ops._fused import resolve


def shares_of(n: int, ends: list[float]) -> list[slice]:
    """n rows cut where they are complete to these parts."""
    bounds = [0, *(round(end * n) for end in ends), n]
    return [slice(a, b) for a, b in pairwise(bounds)]


def by_shares(ends, x, dy, w, b, mean, var, residual, *, training=True, first=0, activation=None,
              channels_last=False, momentum=0.1, eps=1e-5, dropout_p=0.0, seed=0, offset=0,
              **_):  # fmt: skip
    """[y, mean, var, dx, dweight, dbias, dresidual] of a batch norm over rows cut at ``ends``.

    Made of the calls that each rank makes, without ranks.
    """
    axis = -1 if channels_last else 1
    name, options = resolve("batch_norm", activation)
    parts = shares_of(len(x), ends)
    moments = np.zeros((len(parts), 5, x.shape[axis]))
    sums = np.zeros((len(parts), 3, x.shape[axis]))
    for part, own in zip(parts, moments, strict=True):
        _C.batch_norm_moments(x[part], own, axis, eps)
    found = []
    for part, own in zip(parts, sums, strict=True):
        moved = [None if a is None else a.copy() for a in (mean, var)]
        place = first + part.start * math.prod(x.shape[1:])
        y, kept = _C.batch_norm_of_shares(
            x[part], w, b, *moved, None if residual is None else residual[part], None, moments,
            axis, momentum, eps, name, options, dropout_p, seed, offset, place,
        )  # fmt: skip
        found.append((y, moved, kept, _C.batch_norm_backward_sums(dy[part], *kept, own)))
    dx = [
        _C.batch_norm_backward_of_shares(dy[part], *kept, sums, gradients[2], None, None)
        for part, (_, _, kept, gradients) in zip(parts, found, strict=True)
    ]
    for _, moved, kept, _ in found[1:]:
        assert_all_same([*moved, kept[4]], [*found[0][1], found[0][2][4]], "ranks differ")
    y, moved, _, gradients = zip(*found, strict=True)
    dweight, dbias, dresidual = zip(*gradients, strict=True)
    whole = None if dresidual[0] is None else np.concatenate(dresidual)
    return [np.concatenate(y), *moved[0], np.concatenate(dx), added(dweight), added(dbias), whole]


def added(parts):
    """The sum over ranks, rounded once."""
    if parts[0] is None:
        return None
    return np.sum([p.astype(np.float64) for p in parts], axis=0).astype(parts[0].dtype)
