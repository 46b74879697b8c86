"""The arrays that an optimizer keeps for its parameters: made, and put where the parameters are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onepass._array import (
    Array,
    brought_to,
    copy_into,
    is_contiguous,
    parameter_dtype,
    zeros,
    zeros_like,
)


def is_array(value: object) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def follow(arrays: Sequence[Array], held: Sequence[Array], starts: Sequence[float]) -> list[Array]:
    """A state for each parameter: those held, moved to where it lies, and new ones after them."""
    kept = [brought_to(array, state) for array, state in zip(arrays, held, strict=False)]
    return kept + _new(arrays[len(kept) :], starts[len(kept) :])


def _new(arrays: Sequence[Array], starts: Sequence[float]) -> list[Array]:
    """States of the computing type, filled with ``starts``.

    Contiguous parameters share one buffer, so that a step walks one stretch of memory; others get
    state of their own layout, so that a step over a dense permuted parameter stays one dense run.
    """
    states: list[Array] = [None] * len(arrays)
    together: dict[Any, list[int]] = {}
    for index, array in enumerate(arrays):
        dtype = parameter_dtype(array)
        if is_contiguous(array):
            key = (type(array), str(dtype), str(getattr(array, "device", "cpu")))
            together.setdefault(key, []).append(index)
        else:
            states[index] = zeros_like(array, dtype)
    for indices in together.values():
        like = arrays[indices[0]]
        sizes = [_size(arrays[i]) for i in indices]
        buffer = zeros((sum(map(_padded, sizes)),), parameter_dtype(like), like)
        begin = 0
        for index, size in zip(indices, sizes, strict=True):
            states[index] = buffer[begin : begin + size].reshape(tuple(arrays[index].shape))
            begin += _padded(size)
    for state, start in zip(states, starts, strict=True):
        if start != 0:
            copy_into(state, start)
    return states


def _size(array: Array) -> int:
    size = 1
    for extent in array.shape:
        size *= int(extent)
    return size


def _padded(size: int) -> int:
    return (size + 15) // 16 * 16  # 64-byte lines of float32
