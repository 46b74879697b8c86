"""Marks of data and of parts of a training: the same in every process for the same contents."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from types import CodeType, ModuleType
from typing import Any

import numpy as np

from onepass._array import to_numpy
from onepass.data._rows import Column, Rows
from onepass.train import _training

CHUNK = 1 << 24  # bytes of a file that are read at once
DEEPEST = 12  # objects within objects
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
PLAIN = (bool, int, float, complex, str, bytes, type(None))


def digest(array: Any) -> str | None:
    """Of every value of an array, a DataFrame, or rows of a file; of a data set, which may draw its
    samples anew, shape and dtype alone."""
    if array is None:
        return None
    if isinstance(array, Column):
        return repr(_training.row_marks(array))
    in_file = isinstance(array, (Rows, np.memmap))
    columns = [str(c) for c in array] if hasattr(array, "iloc") and array.ndim == 2 else []
    values = array if in_file else np.asarray(to_numpy(array) if not columns else array)
    head = repr((tuple(values.shape), str(values.dtype), columns)).encode()
    found = hashlib.blake2b(head, digest_size=16)
    rows = len(values) if values.ndim else 0
    each = values.dtype.itemsize * int(np.prod(values.shape[1:]))
    step = max(1, CHUNK // max(each, 1)) if in_file else max(rows, 1)
    for start in range(0, max(rows, 1), step):
        part = np.asarray(values[start : start + step] if rows else values)
        found.update(
            repr(part.tolist()).encode()
            if part.dtype.kind == "O"
            else np.ascontiguousarray(part).tobytes()
        )
    return found.hexdigest()


def shown(part: Any) -> str:
    """Its repr without addresses."""
    return ADDRESS.sub("", repr(part))


def mark(part: Any) -> str:
    """Of an object: its class and what it was made with, or holds; of a function its code too."""
    return hashlib.blake2b(_described(part, frozenset()).encode(), digest_size=16).hexdigest()


def _described(part: Any, around: Set[int]) -> str:
    if isinstance(part, PLAIN):
        return repr(part)
    if isinstance(part, np.generic):
        return repr(part.item())
    if id(part) in around or len(around) > DEEPEST:
        return type(part).__qualname__
    of: Callable[[Any], str] = functools.partial(_described, around={*around, id(part)})
    if isinstance(part, Mapping):
        return f"{{{', '.join(sorted(f'{of(k)}: {of(v)}' for k, v in part.items()))}}}"
    if isinstance(part, (list, tuple)):
        return f"({', '.join(map(of, part))})"
    if isinstance(part, Set):
        return f"{{{', '.join(sorted(map(of, part)))}}}"
    if (hasattr(part, "dtype") and hasattr(part, "shape")) or hasattr(part, "iloc"):
        return f"array {digest(part)}"
    if isinstance(part, functools.partial):
        return f"{of(part.func)}{of(part.args)}{of(part.keywords)}"
    if inspect.ismethod(part):
        return f"{of(part.__self__)}.{part.__func__.__qualname__}"
    if isinstance(part, (type, ModuleType)) or inspect.isbuiltin(part):
        return str(getattr(part, "__qualname__", part.__name__))
    if inspect.isfunction(part):
        return _function(part, of)
    state = _state(part)
    return f"{type(part).__qualname__}({shown(part) if state is None else of(state)})"


def _function(function: Any, of: Callable[[Any], str]) -> str:
    """Its name, and of one that is not ours what it does; lists that it fills do not count."""
    if str(function.__module__).startswith("onepass."):
        return str(function.__qualname__)
    kept = []
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not filled yet
            if isinstance(value := cell.cell_contents, (*PLAIN, tuple)) or inspect.isfunction(
                value
            ):
                kept.append(value)
    more = (function.__defaults__, function.__kwdefaults__, kept)
    return f"{function.__qualname__}{_code(function.__code__, of)}{of(more)}"


def _code(code: CodeType, of: Callable[[Any], str]) -> str:
    consts = [_code(c, of) if isinstance(c, CodeType) else of(c) for c in code.co_consts]
    return repr((code.co_code.hex(), consts, code.co_names))


def _state(part: Any) -> Any:
    """What makes the object what it is; None where only its repr tells."""
    if callable(getattr(part, "get_params", None)):  # of scikit-learn: what it was made with
        return part.get_params(deep=False)
    if isinstance(part, np.random.Generator):
        return part.bit_generator.state
    if isinstance(part, np.random.RandomState):
        return part.get_state()
    ours = type(part).__module__.startswith("onepass.") and not dataclasses.is_dataclass(part)
    if ours and "__repr__" in {name for kind in type(part).__mro__[:-1] for name in vars(kind)}:
        return shown(part)  # what it was made with: a callback has memory beside that
    return getattr(part, "__dict__", None)
