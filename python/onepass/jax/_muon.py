"""Muon inside XLA: the step that the handler of csrc/jax/muon.cpp asks Python for.

Products of matrices are those of NumPy, as `onepass.optim` has them on its arrays: the kernels have
none, and a BLAS that a wheel brought along would be a second one beside NumPy's, of other bits. So
the handler lends the memory of the call as NumPy arrays, and `onepass.ops` does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from onepass import _C
from onepass.jax._checks import number
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
NAMES = (*_ONE, *(f"{name}[{i}]" for name, count in _SEVERAL.items() for i in range(count)))


def numbers_of(group: Options) -> list[Any]:
    """The checked options of a group as the numbers that a state carries; an array stays one."""
    decay = "adamw_weight_decay"
    options = {
        **group,
        "adjust_lr_fn": _ADJUSTMENTS.index(group["adjust_lr_fn"]),
        decay: group["weight_decay" if group[decay] is None else decay],
    }
    several = (value for name in _SEVERAL for value in options[name])
    ones = ((name, options[name]) for name in _ONE)
    return [
        *(number("muon", n, v) if isinstance(v, jax.Array) else float(v) for n, v in ones),
        *map(float, several),
    ]


def _options(numbers: Sequence[float]) -> dict[str, Any]:
    """What `numbers_of` was given."""
    options: dict[str, Any] = dict(zip(_ONE, numbers, strict=False))  # the others follow
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
    leaves: Sequence[tuple[int, int, int]],
    gradients: Sequence[Array],
    before: Sequence[Array],
    states: Sequence[Array],
    moved: Sequence[Array],
) -> None:
    """One step of the parameters of a call, in its memory.

    Args:
        owner: whom a message names.
        numbers: of `numbers_of`, those of this step.
        count: of the steps before it.
        unscale: what gradients are multiplied by.
        leaves: (rows, columns, size) of each parameter; (0, 0, size) of a vector.
        gradients: one for each parameter, or all in one array; so are the others.
        before: the parameters as they were, where the call is to give what is added to them.
        states: averages of gradients, one after the other; averages of squares of vectors.
        moved: the parameters, to be stepped.
    """
    if not leaves:
        return
    averages, squares = states
    sizes = [size for *_, size in leaves]
    shapes = [(r, c) if r + c > 0 else (size,) for r, c, size in leaves]
    matrix = [len(shape) == 2 for shape in shapes]

    def shaped(arrays: Sequence[Array]) -> list[Array]:
        each = arrays if len(arrays) == len(leaves) else _parts(arrays[0], sizes)
        return [array.reshape(shape) for array, shape in zip(each, shapes, strict=True)]

    params, grads, momenta = (shaped(arrays) for arrays in (moved, gradients, [averages]))
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
    for change, held in zip(params, shaped(before) if before else (), strict=False):
        np.subtract(change, held, out=change)
