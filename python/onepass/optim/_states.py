"""Creates the arrays that an optimizer keeps, and moves them to the device of their parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onepass._array import (
    Array,
    DType,
    bfloat16,
    brought_to,
    copy_into,
    is_contiguous,
    library,
    parameter_dtype,
    refuse_capture_beside,
    zeros,
    zeros_like,
)
from onepass.ops._rule import State


def is_array(value: object) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


class Owner(NamedTuple):
    """Whom messages name: an optimizer and its parameters."""

    name: str
    names: Sequence[str | None]

    def parameter(self, index: int) -> str:
        name = self.names[index]
        return f"parameter {index}{f' ({name})' if name else ''}"

    def check_shapes(self, arrays: Sequence[Array], shapes: Sequence[tuple[int, ...]]) -> None:
        """ValueError for a parameter of another shape than its states were made for."""
        for index, (array, shape) in enumerate(zip(arrays, shapes, strict=False)):
            if (now := tuple(array.shape)) != shape:
                raise ValueError(
                    f"{self.name}: {self.parameter(index)} has shape {now}, expected {shape}, that "
                    "of its states: make the optimizer after changing the parameter"
                )


class Storage:
    """How an optimizer stores its states: as arrays of each parameter's computing type or bfloat16.

    A state of a parameter is one array, which a plan takes; what is in it only this class knows.

    Args:
        wanted: ``state_dtype``: None or "bfloat16".
    """

    def __init__(self, wanted: str | None) -> None:
        self._wanted = wanted
        self._made = 0  # stretches of memory

    def _together(self, sizes: Sequence[int], step: int, dtype: DType, like: Array) -> list[Array]:
        """Zeros of these sizes in one stretch of memory, at multiples of ``step`` elements."""
        rooms = [-(-size // step) * step for size in sizes]
        self._made += 1
        buffer, parts, begin = _stretch(sum(rooms), dtype, like, self._made), [], 0
        for size, room in zip(sizes, rooms, strict=True):
            parts.append(buffer[begin : begin + size])
            begin += room
        return parts

    def refusal(self, states: Sequence[State], arrays: Sequence[Array]) -> str | None:
        """Why these states of these parameters are not stored so, with what is expected; None:
        they are."""
        for index, array in enumerate(arrays if self._wanted is not None else ()):
            if parameter_dtype(array).itemsize == 8:
                return f"expected None, since parameter {index} has dtype {array.dtype}"
        return None

    def dtype(self, owner: str, array: Array) -> DType:
        """The dtype of the array that holds a state of ``array``.

        Raises:
            ModuleNotFoundError: NumPy has no bfloat16.
        """
        if self._wanted is None:
            return parameter_dtype(array)
        try:
            return bfloat16(array)
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                f"{owner}: 'state_dtype' is {self._wanted!r}, which NumPy arrays have with the "
                "package ml_dtypes alone: pip install ml_dtypes"
            ) from None

    def number_dtype(self, owner: str, array: Array) -> DType:
        """Of the numbers that `put` takes without loss of range."""
        return self.dtype(owner, array)

    def refuse_changed(
        self,
        owner: Owner,
        states: Mapping[str, Sequence[Array]],
        shapes: Sequence[tuple[int, ...]],
        arrays: Sequence[Array],
    ) -> None:
        """TypeError for a parameter that was converted: its ``states`` were not."""
        for key, held in states.items():
            for index, (array, state) in enumerate(zip(arrays, held, strict=False)):
                if state is not None and state.dtype != self.dtype(owner.name, array):
                    raise TypeError(
                        f"{owner.name}: {owner.parameter(index)} has dtype {array.dtype}, and its "
                        f"{key!r} is of {state.dtype}, expected the dtype that it had when the "
                        "optimizer was made: make the optimizer after converting the model"
                    )

    def follow(
        self,
        owner: str,
        state: State,
        arrays: Sequence[Array],
        held: Sequence[Array],
        starts: Sequence[float],
    ) -> list[Array]:
        """A state for each parameter: those held, moved to where it lies, and new ones after them.

        None for a parameter that does without the state.
        """
        kept = [
            None if own is None else brought_to(array, own)
            for array, own in zip(arrays, held, strict=False)
        ]
        first = len(kept)

        def dtype_of(array: Array) -> DType:
            return self.dtype(owner, array)

        return kept + self._new(arrays[first:], starts[first:], dtype_of, state.shape)

    def _new(
        self,
        arrays: Sequence[Array],
        starts: Sequence[float],
        dtype_of: Callable[[Array], DType],
        shape_of: Callable[[Sequence[int]], tuple[int, ...] | None],
    ) -> list[Array]:
        """States filled with ``starts``.

        Contiguous parameters share one buffer, so that a step walks one stretch of memory; others
        get state of their own layout, so that a step over a dense permuted parameter stays one
        dense run.
        """
        states: list[Array] = [None] * len(arrays)
        shapes = [shape_of(array.shape) for array in arrays]
        dense: list[int] = []
        for index, (array, shape) in enumerate(zip(arrays, shapes, strict=True)):
            if shape is None:
                continue
            if is_contiguous(array) or shape != tuple(array.shape):
                dense.append(index)
            else:
                states[index] = zeros_like(array, dtype_of(array))
        for group in alike([arrays[i] for i in dense], dtype_of):
            indices = [dense[i] for i in group]
            like = arrays[indices[0]]
            sizes = [math.prod(shapes[i] or ()) for i in indices]
            parts = self._together(sizes, _LINE, dtype_of(like), like)
            for index, part in zip(indices, parts, strict=True):
                states[index] = part.reshape(shapes[index])
        for state, start in zip(states, starts, strict=True):
            if start != 0 and state is not None:
                copy_into(state, start)
        return states

    def put(self, state: State, held: Array, shape: tuple[int, ...], value: Any) -> None:
        """Fills a state of a parameter of that shape: with an array's values, or one for all."""
        copy_into(held, value)

    def shown(
        self, state: State, held: Sequence[Array], shapes: Sequence[tuple[int, ...]]
    ) -> dict[str, list[Any]]:
        """The entries of a state_dict for one state of all parameters, by name."""
        return {state.key: list(held)}

    def load(
        self,
        state: State,
        held: Array,
        shape: tuple[int, ...],
        entry: Mapping[str, Any],
        start: float,
    ) -> None:
        """Fills a state with what the entry of a state_dict has of it, or with its start."""
        self.put(state, held, shape, entry.get(state.key, start))


_PAGE = 4096
_PLACED = 1 << 20  # bytes


def _stretch(size: int, dtype: DType, like: Array, turn: int) -> Array:
    """Zeros beside ``like``; ``turn``: how many an optimizer has made so far, with this one.

    Large ones of NumPy begin a quarter of a page further into a page at each turn. At the place in
    a page where NumPy puts every large array, which parameter and gradient are, a step over 16M
    elements takes 5 to 10 % longer.
    """
    refuse_capture_beside(like)
    if library(like) is not np or size * dtype.itemsize < _PLACED:
        return zeros((size,), dtype, like)
    buffer = zeros((size + _PAGE // dtype.itemsize,), dtype, like)
    begin = (turn * (_PAGE // 4) - buffer.ctypes.data) % _PAGE // dtype.itemsize
    return buffer[begin : begin + size]


def alike(arrays: Sequence[Array], dtype_of: Callable[[Array], DType]) -> list[list[int]]:
    """Positions of arrays that can share memory: of one library, dtype and device."""
    found: dict[Any, list[int]] = {}
    for index, array in enumerate(arrays):
        key = (type(array), str(dtype_of(array)), str(getattr(array, "device", "cpu")))
        found.setdefault(key, []).append(index)
    return list(found.values())


_LINE = 32  # elements: lines of 64 bytes, also of 16 bits
