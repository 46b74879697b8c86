"""Marks by which a resumed search knows its arguments again, for JSON.

Numbers and words are their own; arrays have a checksum, functions one of their code, objects the
marks of their state. What has none of these is refused: a resume could not tell it from another.
"""

from __future__ import annotations

import functools
import json
import re
import types
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from onepass._array import to_numpy
from onepass.data import DataLoader, augment
from onepass.data._rows import Column
from onepass.train._resume import OF_LOADER
from onepass.train._training import row_marks

MOST_PARTS = 100  # of a list that the record shows
MOST_LETTERS = 1000  # of an object's repr
MOST_BYTES = 2**28  # of an array that is compared in all its bytes
LOCKS = ("_thread", "threading")  # modules whose objects bear on no result
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def marks_of(name: str, value: Any) -> Any:
    """What tells an argument from another.

    Raises:
        ValueError: nothing does.
    """
    return _Marks(name).of(value)


class _Marks:
    def __init__(self, name: str) -> None:
        self._name = name
        self._within: list[Any] = []

    def of(self, value: Any) -> Any:
        value = value.item() if isinstance(value, np.generic) else value
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if any(value is outer for outer in self._within):
            return "..."
        self._within.append(value)
        try:
            return self._of_parts(value)
        finally:
            self._within.pop()

    def _of_parts(self, value: Any) -> Any:
        if isinstance(value, (type, types.BuiltinFunctionType, types.ModuleType)):
            return getattr(value, "__qualname__", value.__name__)
        if isinstance(value, (list, tuple)):
            return _short([self.of(part) for part in value])
        if isinstance(value, (set, frozenset)):
            return sorted((self.of(part) for part in value), key=repr)
        if isinstance(value, Mapping):
            return {str(key): self.of(part) for key, part in value.items()}
        if isinstance(value, DataLoader):
            options = {name: getattr(value, name) for name in OF_LOADER}
            data = [self.of(part) for part in (value.X, value.y, value.sample_weight)]
            return [options, data, self.of(value.transform)]
        if hasattr(value, "iloc"):  # a DataFrame or a Series
            value = value.to_numpy()
        if hasattr(value, "dtype") and hasattr(value, "shape") and value.shape:
            return self._of_array(value)
        if isinstance(value, functools.partial):
            return [self.of(part) for part in (value.func, value.args, value.keywords)]
        if isinstance(value, types.MethodType):
            return [value.__name__, self.of(value.__self__)]
        if isinstance(value, types.FunctionType):
            return self._of_function(value)
        if type(value).__module__ in LOCKS:
            return type(value).__qualname__
        return self._of_object(value)

    def _of_array(self, value: Any) -> Any:
        if isinstance(value, Column):
            return [list(value.shape), str(value.dtype), self.of(value.source.source)]
        if getattr(value, "nbytes", MOST_BYTES + 1) > MOST_BYTES:
            return [*map(str, row_marks(value))]
        array = np.ascontiguousarray(to_numpy(value))
        content = repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes()
        return [str(array.dtype), list(array.shape), f"{zlib.crc32(content):08x}"]

    def _of_function(self, function: types.FunctionType) -> Any:
        """Its name, its code, and the values that it brings along."""
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_full(cell)]
        brought = [function.__defaults__, function.__kwdefaults__, cells]
        return [
            function.__qualname__, self._of_code(function.__code__), *map(self.of, brought)
        ]  # fmt: skip

    def _of_code(self, code: types.CodeType) -> Any:
        inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
        plain = [repr(c) for c in code.co_consts if not isinstance(c, (types.CodeType, frozenset))]
        told = repr((code.co_code, code.co_names, plain)).encode()
        return [f"{zlib.crc32(told):08x}", *map(self._of_code, inner)]

    def _of_object(self, value: Any) -> Any:
        kind = type(value)
        holds, told = bool(kind.__dictoffset__), repr(value)
        ours = kind.__module__.startswith("onepass.")
        if isinstance(value, augment.Compose):
            return [kind.__qualname__, self.of(value.transforms)]
        if (ours or not holds) and not ADDRESS.search(told):
            return told if len(told) <= MOST_LETTERS else f"{zlib.crc32(told.encode()):08x}"
        state = _state_of(value)
        if state is None and not holds:
            raise ValueError(
                f"search: {self._name!r} has a {kind.__qualname__}, which a resume could not tell "
                "from another, expected numbers, words, arrays, functions and objects of them; "
                "leave it out of what __getstate__ returns, or search without resume"
            )
        return [kind.__qualname__, self.of(state)]


def _state_of(value: Any) -> Any:
    """As a pickle would keep it."""
    if hasattr(type(value), "__getstate__"):
        try:
            return value.__getstate__()
        except Exception:  # a class may refuse to be pickled
            return vars(value) if type(value).__dictoffset__ else None
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**held, **getattr(value, "__dict__", {})} or None


def _short(marks: list[Any]) -> list[Any]:
    if len(marks) <= MOST_PARTS:
        return marks
    return [len(marks), f"{zlib.crc32(json.dumps(marks).encode()):08x}"]


def _is_full(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
