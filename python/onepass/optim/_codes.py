"""States of 8 bits: their memory, how a state_dict shows them, and loading them.

csrc/core/codes.h has the code. A state is one array of bytes, the codes and then the scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onepass import _C
from onepass._array import (
    Array,
    beside,
    brought_to,
    is_torch,
    library,
    parameter_dtype,
    to_numpy,
    zeros,
)
from onepass.ops._ranges import SQUARES

# End the keys of codes and scales in a state_dict. The key of the state itself is not there:
# PyTorch would take codes for numbers.
CODES, SCALE = "_codes", "_scale"
_BLOCK = 256
# The states that a code of 8 bits holds well enough, see `refusal`.
_FIT = SQUARES | {"exp_avg", "momentum_buffer", "exp_avg_slow", "exp_avg_fast"}


class Parts(NamedTuple):
    """Views of a state: codes of the parameter's shape, and a scale for each 256 of them."""

    codes: Array
    scales: Array


def refusal(keys: Sequence[str], arrays: Sequence[Array]) -> str | None:
    """Why states of these keys and parameters are not stored in 8 bits."""
    for key in keys:
        if key not in _FIT:
            return f"8 bits would lose too much of {key!r}"
    for index, array in enumerate(arrays):
        if parameter_dtype(array).itemsize == 8:
            return f"parameter {index} has dtype {array.dtype}"
        lib = library(array)
        if lib is not np and not (is_torch(lib) and array.device.type == "cpu"):
            return f"parameter {index} lies on a device, and states of 8 bits on the CPU alone"
    return None


def refuse_other_shapes(
    owner: str, before: Sequence[tuple[int, ...]], arrays: Sequence[Array]
) -> None:
    """ValueError for a parameter of another shape than its codes were made for: their memory does
    not say it."""
    for index, (shape, array) in enumerate(zip(before, arrays, strict=False)):
        if shape != tuple(array.shape):
            raise ValueError(
                f"{owner}: parameter {index} has shape {tuple(array.shape)}, expected {shape}, "
                "that of its states of 8 bits: make the optimizer after changing the parameter"
            )


def follow(
    key: str, arrays: Sequence[Array], held: Sequence[Array], starts: Sequence[float]
) -> list[Array]:
    """A state for each parameter: those held, moved to where it lies, and new ones after them."""
    states = [brought_to(array, state) for array, state in zip(arrays, held, strict=False)]
    first = len(states)
    new = arrays[first:]
    sizes = [_C.coded_bytes(_size(array)) for array in new]
    rooms = [-(-size // 64) * 64 for size in sizes]
    kinds = [(library(array), str(getattr(array, "device", "cpu"))) for array in new]
    if len(set(kinds)) == 1:  # one stretch of memory
        buffer, begin = zeros((sum(rooms),), _dtype(key, new[0]), new[0]), 0
        for size, room in zip(sizes, rooms, strict=True):
            states.append(buffer[begin : begin + size])
            begin += room
    else:
        states += [zeros((n,), _dtype(key, a), a) for n, a in zip(sizes, new, strict=True)]
    for array, state, start in zip(new, states[first:], starts[first:], strict=True):
        if start != 0:
            put(key, state, tuple(array.shape), start)
    return states


def parts(state: Array, shape: tuple[int, ...]) -> Parts:
    """What a state_dict shows of a state."""
    size = 1
    for extent in shape:
        size *= int(extent)
    scales = state[len(state) - 4 * -(-size // _BLOCK) :]
    lib = library(state)
    return Parts(state[:size].reshape(shape), scales.view(lib.float32))


def put(key: str, state: Array, shape: tuple[int, ...], value: Any) -> None:
    """Fills a state with numbers, each as its nearest code; an array or one number for all."""
    numbers = to_numpy(value) if hasattr(value, "shape") else value
    values = np.ascontiguousarray(np.broadcast_to(np.asarray(numbers, np.float32), shape))
    coded = _C.codes_of(values, key not in SQUARES)
    state[:] = beside(state, coded.view(np.uint8 if key in SQUARES else np.int8))


def put_parts(state: Array, shape: tuple[int, ...], value: Parts) -> None:
    """Fills a state with codes and scales as they are."""
    own = parts(state, shape)
    own.codes[...] = beside(state, to_numpy(value.codes))
    own.scales[...] = beside(state, to_numpy(value.scales))


def decoded(owner: str, state_dict: Any) -> Any:
    """A state_dict with numbers where it has codes; `as_saved` finds the codes.

    Raises:
        ValueError: codes without fitting scales.
    """
    try:
        entries = {index: dict(entry) for index, entry in dict(state_dict["state"]).items()}
    except (KeyError, TypeError, ValueError):
        return state_dict  # refused where it is read
    for index, entry in entries.items():
        for key in [str(key).removesuffix(CODES) for key in entry if str(key).endswith(CODES)]:
            found = Parts(entry[f"{key}{CODES}"], entry.pop(f"{key}{SCALE}", None))
            entry[f"{key}{CODES}"] = found
            entry[key] = _values(owner, f"{key!r} of parameter {index}", key, found)
    return {**state_dict, "state": entries}


def as_saved(entry: Mapping[str, Any], key: str) -> Parts | None:
    """The codes of an entry that `decoded` has seen."""
    found: Parts | None = entry.get(f"{key}{CODES}")
    return found


def _values(owner: str, label: str, key: str, found: Parts) -> Array:
    wanted = np.dtype(np.uint8 if key in SQUARES else np.int8)
    try:
        codes, scales = map(to_numpy, found)
        fits = codes.dtype == wanted and scales.dtype == np.float32
        fits = fits and scales.shape == (-(-codes.size // _BLOCK),)
        fits = fits and bool((np.isnan(scales) | (scales >= 0)).all())
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"{owner}.load_state_dict: {label} has codes, expected them of {wanted} and a "
            "float32 scale >= 0 for each 256 of them; nothing was changed"
        )
    flat = np.ascontiguousarray(codes).view(np.uint8).ravel()
    return _C.values_of(flat, scales, key not in SQUARES).reshape(codes.shape)


def _dtype(key: str, like: Array) -> Any:
    lib = library(like)
    unsigned = key in SQUARES
    if is_torch(lib):
        return lib.uint8 if unsigned else lib.int8
    return np.dtype(np.uint8 if unsigned else np.int8)


def _size(array: Array) -> int:
    size = 1
    for extent in array.shape:
        size *= int(extent)
    return size
