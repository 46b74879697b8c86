"""Muon inside XLA: the step that the handler of csrc/jax/muon.cpp asks Python for.

Products of matrices are those of NumPy, as `onepass.optim` has them on its arrays: the kernels have
none, and a BLAS that a wheel brought along would be a second one beside NumPy's, of other bits. So
the handler lends the memory of the call as NumPy arrays, and `onepass.ops` does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from onepass import _C
from onepass.ops._muon import COEFFICIENTS, Directions, Matrices
from onepass.ops._rule import Options
from onepass.optim._muon import RULE

Array = np.ndarray[Any, Any]

_ADJUSTMENTS = (None, "original", "match_rms_adamw")
_ONE = (
    *("lr", "weight_decay", "momentum", "nesterov", "eps", "ns_steps", "adjust_lr_fn"),
    *("adamw_lr_ratio", "adamw_eps", "adamw_weight_decay"),
)
_SEVERAL = {"ns_coefficients": len(COEFFICIENTS), "adamw_betas": 2}


def numbers_of(group: Options) -> list[float]:
    """The checked options of a group as the numbers that a state carries, the rate first."""
    decay = "adamw_weight_decay"
    options = {
        **group,
        "adjust_lr_fn": _ADJUSTMENTS.index(group["adjust_lr_fn"]),
        decay: group["weight_decay" if group[decay] is None else decay],
    }
    several = (number for name in _SEVERAL for number in options[name])
    return [*(float(options[name]) for name in _ONE), *map(float, several)]


def _options(numbers: Sequence[float]) -> dict[str, Any]:
    """What `numbers_of` was given."""
    options: dict[str, Any] = dict(zip(_ONE, numbers, strict=False))
    rest = iter(numbers[len(_ONE) :])
    for name, count in _SEVERAL.items():
        options[name] = tuple(next(rest) for _ in range(count))
    options["nesterov"] = bool(options["nesterov"])
    options["ns_steps"] = int(options["ns_steps"])
    options["adjust_lr_fn"] = _ADJUSTMENTS[int(options["adjust_lr_fn"])]
    return options


def _parts(buffer: Array, sizes: Iterable[int]) -> list[Array]:
    """Views of arrays that lie one after the other."""
    return np.split(buffer.ravel(), np.cumsum([*sizes])[:-1])


def step(
    owner: str,
    numbers: Sequence[float],
    count: int,
    unscale: float,
    max_norm: float | None,
    maximize: bool,
    in_place: bool,
    leaves: Sequence[tuple[int, int, int]],
    given: Sequence[Array],
    results: Sequence[Array],
) -> None:
    """One step of the parameters of a call, in its memory.

    Args:
        owner: whom a message names.
        numbers: of `numbers_of`, the rate that of this step.
        count: of the steps before it.
        unscale: what gradients are multiplied by.
        leaves: (rows, columns, size) of each parameter; (0, 0, size) of a vector.
        given: with ``in_place`` the gradients, in one array or several; else the gradients, and the
            parameters as they were.
        results: averages of gradients, one after the other; averages of squares of vectors; and
            the parameters, with ``in_place`` in one array, else in several, in the place of what is
            to be added to them.
    """
    if not leaves:
        return
    averages, squares, *moved = results
    sizes = [size for *_, size in leaves]
    shapes = [(r, c) if r + c > 0 else (size,) for r, c, size in leaves]
    matrix = [len(shape) == 2 for shape in shapes]
    grads = list(given) if in_place else list(given[: len(leaves)])
    if in_place:
        moved = _parts(moved[0], sizes)
        grads = _parts(grads[0], sizes) if len(grads) != len(leaves) else grads
    params, grads, momenta = (
        [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]
        for arrays in (moved, grads, _parts(averages, sizes))
    )
    options = {**_options(numbers), "use_muon": None, "params": []}
    own, adamw = Matrices.of(owner, options), RULE.of_group(owner, options)
    directions = Directions([p for p, there in zip(params, matrix, strict=True) if there])
    of_matrices = iter(directions.arrays)
    of_vectors = iter(_parts(squares, (math.prod(s) for s in shapes if len(s) == 1)))
    seconds = [next(of_matrices if there else of_vectors) for there in matrix]
    rows = dict.fromkeys(matrix)  # a row of hyper-parameters for each kind that there is
    numbered = [[*rows].index(there) for there in matrix]
    plan = _C.Plan("muon", params, [momenta, seconds], numbered, [count] * len(leaves), None, owner)
    hypers = [own.hyper if there else adamw for there in rows]
    plan.step(grads, hypers, unscale, None, max_norm, False, False, maximize, True)
    directions.apply(owner, [True] * sum(matrix), [own] * sum(matrix))
    if not in_place:
        for change, before in zip(params, given[len(leaves) :], strict=True):
            np.subtract(change, before.reshape(change.shape), out=change)
