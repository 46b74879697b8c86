"""The arrays that an optimizer keeps for its parameters: made, and put where the parameters are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from onepass._array import (
    Array,
    DType,
    bfloat16,
    brought_to,
    copy_into,
    is_contiguous,
    parameter_dtype,
    zeros,
    zeros_like,
)


def is_array(value: object) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def state_dtype(owner: str, array: Array, wanted: str | None) -> DType:
    """The dtype of a state of ``array``: that of its computing type, or "bfloat16".

    Raises:
        ValueError: bfloat16 for a float64 array. ModuleNotFoundError: NumPy has no bfloat16.
    """
    dtype = parameter_dtype(array)
    if wanted is None:
        return dtype
    if dtype.itemsize == 8:
        raise ValueError(
            f"{owner}: 'state_dtype' is {wanted!r}, expected None for float64 parameters"
        )
    try:
        return bfloat16(array)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{owner}: 'state_dtype' is {wanted!r}, which NumPy arrays have with the package "
            "ml_dtypes alone: pip install ml_dtypes"
        ) from None


def follow(
    arrays: Sequence[Array],
    held: Sequence[Array],
    starts: Sequence[float],
    dtype_of: Callable[[Array], DType] = parameter_dtype,
    shape_of: Callable[[Sequence[int]], tuple[int, ...] | None] = tuple,
) -> list[Array]:
    """A state for each parameter: those held, moved to where it lies, and new ones after them.

    None for a parameter that does without the state, of which ``shape_of`` says None.
    """
    kept = [
        None if state is None else brought_to(array, state)
        for array, state in zip(arrays, held, strict=False)
    ]
    return kept + _new(arrays[len(kept) :], starts[len(kept) :], dtype_of, shape_of)


def _new(
    arrays: Sequence[Array],
    starts: Sequence[float],
    dtype_of: Callable[[Array], DType],
    shape_of: Callable[[Sequence[int]], tuple[int, ...] | None],
) -> list[Array]:
    """States filled with ``starts``.

    Contiguous parameters share one buffer, so that a step walks one stretch of memory; others get
    state of their own layout, so that a step over a dense permuted parameter stays one dense run.
    """
    states: list[Array] = [None] * len(arrays)
    shapes = [shape_of(array.shape) for array in arrays]
    together: dict[Any, list[int]] = {}
    for index, (array, shape) in enumerate(zip(arrays, shapes, strict=True)):
        if shape is None:
            continue
        dtype = dtype_of(array)
        if is_contiguous(array) or shape != tuple(array.shape):
            key = (type(array), str(dtype), str(getattr(array, "device", "cpu")))
            together.setdefault(key, []).append(index)
        else:
            states[index] = zeros_like(array, dtype)
    for indices in together.values():
        like = arrays[indices[0]]
        sizes = [math.prod(shapes[i] or ()) for i in indices]
        buffer = zeros((sum(map(_padded, sizes)),), dtype_of(like), like)
        begin = 0
        for index, size in zip(indices, sizes, strict=True):
            states[index] = buffer[begin : begin + size].reshape(shapes[index])
            begin += _padded(size)
    for state, start in zip(states, starts, strict=True):
        if start != 0 and state is not None:
            copy_into(state, start)
    return states


def _padded(size: int) -> int:
    return (size + 31) // 32 * 32  # 64-byte lines, also of 16 bits
