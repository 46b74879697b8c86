"""States of 8 bits: their memory, how a state_dict shows them, and loading them.

csrc/core/codes.h has the code and the layout: a state is one array of bytes, the codes and then the
scales.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onepass import _C
from onepass._array import (
    Array,
    DType,
    beside,
    brought_to,
    is_torch,
    library,
    parameter_dtype,
    to_numpy,
)
from onepass.ops._ranges import code_of
from onepass.ops._rule import State
from onepass.optim._states import Owner, Storage, alike

# End the keys of codes and scales in a state_dict. The key of the state itself is not there:
# PyTorch would take codes for numbers.
CODES, SCALE = "_codes", "_scale"
_LINE = 64  # bytes


class Parts(NamedTuple):
    """Views of a state: codes of the parameter's shape, and a scale for each block of them."""

    codes: Array
    scales: Array


class CodedStorage(Storage):
    """States of 8 bits; `State.code` says which there are."""

    def __init__(self) -> None:
        super().__init__("int8")

    def refusal(self, states: Sequence[State], arrays: Sequence[Array]) -> str | None:
        for state in states:
            if state.code is None:
                return (
                    f"expected None or 'bfloat16', since 8 bits would lose too much of "
                    f"{state.key!r}"
                )
        return super().refusal(states, arrays)

    def number_dtype(self, owner: str, array: Array) -> DType:
        return parameter_dtype(array)  # float32: others are refused

    def refuse_changed(
        self,
        owner: Owner,
        states: Mapping[str, Sequence[Array]],
        shapes: Sequence[tuple[int, ...]],
        arrays: Sequence[Array],
    ) -> None:
        """ValueError for a parameter of another shape than its codes were made for: their memory
        does not say it. They serve every dtype that is not refused."""
        owner.check_shapes(arrays, shapes)

    def follow(
        self,
        owner: str,
        state: State,
        arrays: Sequence[Array],
        held: Sequence[Array],
        starts: Sequence[float],
    ) -> list[Array]:
        states = [brought_to(array, own) for array, own in zip(arrays, held, strict=False)]
        first = len(states)
        new = arrays[first:]
        states += [None] * len(new)

        def dtype_of(array: Array) -> DType:
            return _dtype(state, array)

        for group in alike(new, dtype_of):
            sizes = [_C.coded_bytes(math.prod(new[i].shape)) for i in group]
            like = new[group[0]]
            parts = self._together(sizes, _LINE, dtype_of(like), like)
            for i, part in zip(group, parts, strict=True):
                states[first + i] = part
        for i in range(first, len(arrays)):
            if starts[i] != 0:
                self.put(state, states[i], tuple(arrays[i].shape), starts[i])
        return states

    def put(self, state: State, held: Array, shape: tuple[int, ...], value: Any) -> None:
        """Each number becomes its nearest code."""
        numbers = to_numpy(value) if hasattr(value, "shape") else value
        values = np.ascontiguousarray(np.broadcast_to(np.asarray(numbers, np.float32), shape))
        held[...] = beside(held, _C.codes_of(values, state.code == "int8").view(state.code))

    def shown(
        self, state: State, held: Sequence[Array], shapes: Sequence[tuple[int, ...]]
    ) -> dict[str, list[Any]]:
        pairs = [parts(own, shape) for own, shape in zip(held, shapes, strict=True)]
        return {
            f"{state.key}{CODES}": [pair.codes for pair in pairs],
            f"{state.key}{SCALE}": [pair.scales for pair in pairs],
        }

    def load(
        self,
        state: State,
        held: Array,
        shape: tuple[int, ...],
        entry: Mapping[str, Any],
        start: float,
    ) -> None:
        """Codes as they are, where the entry has them; else as `put` does."""
        found: Parts | None = entry.get(f"{state.key}{CODES}")
        if found is None:
            super().load(state, held, shape, entry, start)
        else:
            own = parts(held, shape)
            own.codes[...] = beside(held, to_numpy(found.codes))
            own.scales[...] = beside(held, to_numpy(found.scales))


def storage_of(wanted: str | None) -> Storage:
    """The storage that ``state_dtype`` asks for."""
    return CodedStorage() if wanted == "int8" else Storage(wanted)


def parts(state: Array, shape: tuple[int, ...]) -> Parts:
    """A parameter's state of that shape as a state_dict shows it."""
    size = math.prod(shape)
    lib = library(state)
    scales = state[_C.scales_at(size) : _C.coded_bytes(size)].view(lib.float32)
    if is_torch(lib) and size > 0:
        # A storage of their own in the same memory: torch.save takes no storage of two dtypes.
        scales = lib.from_dlpack(scales)
    elif is_torch(lib):
        scales = scales.clone()
    return Parts(state[:size].reshape(shape), scales)


def decoded(owner: str, state_dict: Any) -> Any:
    """A state_dict with numbers where it has codes, beside which they stay, as `Parts`.

    Raises:
        ValueError: codes without fitting scales.
    """
    try:
        entries = {index: dict(entry) for index, entry in dict(state_dict["state"]).items()}
    except (KeyError, TypeError, ValueError):
        return state_dict  # refused where it is read
    for index, entry in entries.items():
        for key in [str(key).removesuffix(CODES) for key in entry if str(key).endswith(CODES)]:
            if entry.get(key) is not None:
                raise ValueError(
                    f"{owner}.load_state_dict: parameter {index} has {key!r} and "
                    f"{f'{key}{CODES}'!r}, expected one of them; nothing was changed"
                )
            found = Parts(entry[f"{key}{CODES}"], entry.pop(f"{key}{SCALE}", None))
            entry[f"{key}{CODES}"] = found
            entry[key] = _values(owner, f"{key!r} of parameter {index}", key, found)
    return {**state_dict, "state": entries}


def _values(owner: str, label: str, key: str, found: Parts) -> Array:
    wanted = np.dtype(code_of(key) or "int8")
    try:
        codes, scales = map(to_numpy, found)
        fits = codes.dtype == wanted and scales.dtype == np.float32
        fits = fits and scales.shape == (_C.code_blocks(codes.size),)
        fits = fits and not bool(((scales < 0) | np.isinf(scales)).any())
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits:
        raise ValueError(
            f"{owner}.load_state_dict: {label} has codes, expected them of {wanted} and a "
            f"float32 scale >= 0, not inf, for each {_C.CODE_BLOCK} of them; nothing was changed"
        )
    flat = np.ascontiguousarray(codes).view(np.uint8).ravel()
    return _C.values_of(flat, scales, wanted == np.int8).reshape(codes.shape)


def _dtype(state: State, like: Array) -> Any:
    lib = library(like)
    return getattr(lib, state.code or "") if is_torch(lib) else np.dtype(state.code)
