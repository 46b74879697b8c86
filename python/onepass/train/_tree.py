"""State as JSON and arrays: dicts, lists, tuples, numbers, text, None, and arrays anywhere in them.

Values that JSON lacks become an object with one key that begins with "$": arrays ("$array": name in
the archive), NumPy scalars, tuples, dicts with keys that are not text, NaN and infinities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass._array import to_numpy


def pack(value: Any, arrays: dict[str, NDArray[Any]], path: str) -> Any:
    """``value`` for JSON; its arrays go into ``arrays`` under names made from their paths."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and not isinstance(value, np.generic):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, np.generic):
        return {"$scalar": _keep(np.asarray(value), arrays, path)}
    if isinstance(value, Mapping):
        return _pack_mapping(value, arrays, path)
    if isinstance(value, (list, tuple)):
        items = [pack(item, arrays, f"{path}.{i}") for i, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{path}: a MaskedArray cannot be kept in a checkpoint: the mask would be lost"
        )
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return {"$array": _keep(to_numpy(value), arrays, path)}
    raise TypeError(f"{path}: a {type(value).__name__} cannot be kept in a checkpoint")


def unpack(value: Any, arrays: Mapping[str, NDArray[Any]], part: str) -> Any:
    """The inverse of ``pack``; ``arrays`` has ``<part>/<name>`` for every array."""
    if isinstance(value, list):
        return [unpack(item, arrays, part) for item in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if not tag.startswith("$"):
        return {key: unpack(item, arrays, part) for key, item in value.items()}
    inner = value[tag]
    if tag == "$array":
        return arrays[f"{part}/{inner}"]
    if tag == "$scalar":
        return arrays[f"{part}/{inner}"][()]
    if tag == "$float":
        return float(inner)
    if tag == "$tuple":
        return tuple(unpack(item, arrays, part) for item in inner)
    if tag == "$dict":
        return {unpack(k, arrays, part): unpack(v, arrays, part) for k, v in inner}
    raise ValueError(f"unknown mark {tag!r}")


def _pack_mapping(value: Mapping[Any, Any], arrays: dict[str, NDArray[Any]], path: str) -> Any:
    packed = {key: pack(item, arrays, f"{path}.{key}") for key, item in value.items()}
    if all(isinstance(key, str) and not key.startswith("$") for key in packed):
        return packed
    return {"$dict": [[pack(key, arrays, path), item] for key, item in packed.items()]}


def _keep(array: NDArray[Any], arrays: dict[str, NDArray[Any]], path: str) -> str:
    """Add an array under a free name: its path below the part."""
    if not _is_portable(array):
        raise TypeError(
            f"{path}: an array of dtype {array.dtype} cannot be kept in a checkpoint, expected "
            "booleans or numbers that every machine has; convert it with astype"
        )
    name = path.partition(".")[2] or path
    free, number = name, 1
    while free in arrays:
        free, number = f"{name}~{number}", number + 1
    arrays[free] = array
    return free


def _is_portable(array: NDArray[Any]) -> bool:
    """Whether every machine has the dtype: longdouble has another size on others."""
    size = {"b": 1, "i": 8, "u": 8, "f": 8, "c": 16}.get(array.dtype.kind, 0)
    return array.dtype.itemsize <= size or array.dtype.name == "bfloat16"
