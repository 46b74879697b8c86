"""Marks of data and arguments: by which a resumed run knows that it is given the same as before.

A number or a word is its own mark. Of anything else a record has a text for messages and a digest
of all that it is made of: arrays with every value, functions with their code and what they bring
along, objects with their state. It is the same in every process for the same contents.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import random
import re
import types
import zlib
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from typing import Any

import numpy as np

from onepass._array import to_numpy
from onepass.data import DataLoader
from onepass.data._rows import Column, Rows, beside_samples

OF_LOADER = ("size", "batch_size", "shuffle", "last_batch", "seed", "sampling")
CHUNK = 1 << 24  # bytes of an array that are read at once
SAMPLED = 64  # rows that tell data apart before each fit
MOST_BYTES = 1 << 30  # of an array all of whose rows are compared between ranks
LONGEST = 60  # characters of a value that a message shows
DEEPEST = 8  # objects within objects that a text shows
PLAIN = (bool, int, float, complex, str, bytes, type(None))
LOCKS = ("_thread", "threading")  # modules whose objects bear on no result
GENERATORS = (np.random.Generator, np.random.BitGenerator, np.random.RandomState, random.Random)
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def mark(
    owner: str, name: str, value: Any, text: str | None = None, *, refitted: bool = False
) -> Any:
    """What a record keeps of an argument, for JSON: a number or a word, or ``[text, digest]``.

    Args:
        owner, name: of the call and of its argument, for messages.
        text: what messages show; None: what `text_of` says, of data nothing.
        refitted: each training fits a copy of it: what it was made with counts, and not what it has
            learnt; its random numbers begin anew.

    Raises:
        ValueError: it has a part that nothing tells from another.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if text is None and isinstance(value, (bool, int, float, str, type(None))):
        finite = not isinstance(value, float) or math.isfinite(value)
        return value if finite else repr(value)  # NaN is like NaN
    if text is None and not _is_data(value):
        text = text_of(value)
    parts = _Parts(owner, name, refitted).of(value)
    shown = None if text is None or len(text) > LONGEST else text
    return [shown, hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()]


# Data.


def digest(array: Any) -> str:
    """Of every value of an array, a DataFrame, or rows of a file."""
    columns = [str(c) for c in array] if hasattr(array, "iloc") and array.ndim == 2 else []
    in_file = isinstance(array, (Rows, np.memmap))
    values = array if in_file else np.asarray(to_numpy(array) if not columns else array)
    head = repr((tuple(values.shape), str(values.dtype), columns)).encode()
    found = hashlib.blake2b(head, digest_size=16)
    rows = len(values) if values.ndim else 0
    each = values.dtype.itemsize * int(np.prod(values.shape[1:]))
    step = max(1, CHUNK // max(each, 1))
    for start in range(0, max(rows, 1), step):
        part = np.asarray(values[start : start + step] if rows else values)
        found.update(
            repr(part.tolist()).encode()
            if part.dtype.kind == "O"
            else np.ascontiguousarray(part).tobytes()
        )
    return found.hexdigest()


def fingerprint(*loaders: Any) -> list[Any]:
    """Marks of the data of loaders that cost little, before each fit: shapes, dtypes and a checksum
    of some rows."""
    return [
        _of_some_rows(array)
        for loader in loaders
        if loader is not None
        for array in (loader.X, loader.y, loader.sample_weight)
    ]


def _of_some_rows(array: Any) -> Any:
    if array is None:
        return None
    count = len(array)
    if isinstance(array, Column):  # a data set may draw its samples anew
        return tuple(array.shape), str(array.dtype)
    rows = np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).astype(np.int64))
    sample = np.ascontiguousarray(to_numpy(array[beside_samples(array, rows)]))
    return tuple(array.shape), str(array.dtype), zlib.crc32(sample.tobytes())


def checksums(*loaders: Any) -> list[int | None]:
    """Of every row of the arrays of loaders, in memory and not above `MOST_BYTES`: a second of a
    gigabyte."""
    return [
        zlib.crc32(np.ascontiguousarray(array).data) if _is_small(array) else None
        for loader in loaders
        if loader is not None
        for array in (loader.X, loader.y, loader.sample_weight)
    ]


def _is_small(array: Any) -> bool:
    plain = type(array) is np.ndarray and array.dtype.kind in "biuf"
    return plain and array.nbytes <= MOST_BYTES


def _is_array(value: Any) -> bool:
    if isinstance(value, (type, types.ModuleType)):  # a class has what its objects have
        return False
    return hasattr(value, "iloc") or (hasattr(value, "dtype") and hasattr(value, "shape"))


def _is_data(value: Any) -> bool:
    """Whether a message would show numbers that say nothing."""
    parts = value.values() if isinstance(value, Mapping) else value
    parts = parts if isinstance(value, (Mapping, list, tuple)) else [value]
    return any(_is_array(part) or isinstance(part, DataLoader) for part in parts)


# Texts.


def without_addresses(part: Any) -> str:
    """The repr of an object, the same in every process."""
    return ADDRESS.sub("", repr(part))


def text_of(part: Any, depth: int = 0) -> str:
    """A part of a training as messages call it: a function by its name, an object of a class as
    the call that makes it. It is the same in every process."""
    if isinstance(part, np.generic):
        part = part.item()
    if isinstance(part, PLAIN):
        return repr(part)
    if depth > DEEPEST:
        return "…"
    of: Callable[[Any], str] = functools.partial(text_of, depth=depth + 1)
    if isinstance(part, (tuple, list)):
        return f"({', '.join(map(of, part))})"
    if isinstance(part, Mapping):
        return f"{{{', '.join(f'{of(k)}: {of(v)}' for k, v in part.items())}}}"
    if _is_array(part):
        return f"<array {tuple(part.shape)} of checksum {digest(part)[:8]}>"
    if isinstance(part, functools.partial):
        given = [*map(of, part.args), *(f"{k}={of(v)}" for k, v in part.keywords.items())]
        return f"{of(part.func)}({', '.join(given)})"
    name = part.__name__ if isinstance(part, types.ModuleType) else None
    name = getattr(part, "__qualname__", name)
    if name is not None:
        return str(name)
    if depth and not _is_ours(part):
        return f"<{type(part).__qualname__}>"
    return text_of_kind(type(part), part, depth)


def text_of_kind(kind: type, part: Any, depth: int = 0) -> str:
    """An object as the call of a class that makes it."""
    made = (f"{name}={text_of(v, depth + 1)}" for name, v in made_with(kind, part).items())
    return f"{kind.__qualname__}({', '.join(made)})"


def _is_ours(part: Any) -> bool:
    return type(part).__module__.startswith("onepass.")


def _parameters(kind: type) -> list[str]:
    with suppress(TypeError, ValueError):  # a class of an extension may have no signature
        return list(inspect.signature(kind).parameters)
    return []


def made_with(kind: type, part: Any) -> dict[str, Any]:
    """The arguments of its class that an object keeps as attributes."""
    return {name: getattr(part, name) for name in _parameters(kind) if hasattr(part, name)}


# What a value is made of.


class _Parts:
    """Words, and lists of words, for everything that a value is made of."""

    def __init__(self, owner: str, name: str, refitted: bool) -> None:
        self._owner, self._name, self._refitted = owner, name, refitted
        self._around: list[Any] = []

    def of(self, value: Any) -> Any:
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, PLAIN):
            return repr(value)
        if any(value is outer for outer in self._around):
            return "…"
        self._around.append(value)
        try:
            return self._of_parts(value)
        finally:
            self._around.pop()

    def _of_parts(self, value: Any) -> Any:
        if isinstance(value, (type, types.ModuleType)):
            return getattr(value, "__qualname__", value.__name__)
        if isinstance(value, types.BuiltinFunctionType):
            holder = value.__self__  # of a method; the module of a function
            bare = holder is None or isinstance(holder, (type, types.ModuleType))
            return [value.__qualname__, *([] if bare else [self.of(holder)])]
        if isinstance(value, (list, tuple)):
            return [self.of(part) for part in value]
        if isinstance(value, Set):
            return sorted((self.of(part) for part in value), key=repr)
        if isinstance(value, Mapping):
            return sorted(([self.of(k), self.of(v)] for k, v in value.items()), key=repr)
        if isinstance(value, DataLoader):
            options = {name: getattr(value, name) for name in OF_LOADER}
            data = (value.X, value.y, value.sample_weight)
            return [self.of(options), self.of(data), self.of(value.transform)]
        if isinstance(value, Column):  # whose samples a data set may draw anew
            return [list(value.shape), str(value.dtype), self.of(value.source.source)]
        if _is_array(value):
            return digest(value)
        if isinstance(value, functools.partial):
            return [self.of(part) for part in (value.func, value.args, value.keywords)]
        if isinstance(value, types.MethodType):
            function: Any = value.__func__
            plain = isinstance(function, types.FunctionType)
            told = self._of_function(function) if plain else function.__qualname__
            return [told, self.of(value.__self__)]
        if isinstance(value, types.FunctionType):
            return self._of_function(value)
        return self._of_object(value)

    def _of_function(self, function: types.FunctionType) -> Any:
        """Its name, its code and the values that it brings along; our code is that of a version."""
        ours = str(function.__module__).startswith("onepass.")
        function = inspect.unwrap(function) if ours else function
        cells = []
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # not filled yet
                cells.append(cell.cell_contents)
        if ours:
            return [function.__qualname__, self.of(cells)]
        brought = (function.__defaults__, function.__kwdefaults__, cells)
        return [function.__qualname__, self._of_code(function.__code__), self.of(brought)]

    def _of_code(self, code: types.CodeType) -> Any:
        consts = [
            self._of_code(c) if isinstance(c, types.CodeType) else self.of(c)
            for c in code.co_consts
        ]
        return [code.co_code.hex(), consts, list(code.co_names)]

    def _of_object(self, value: Any) -> Any:
        kind = type(value)
        if kind.__module__ in LOCKS:
            return kind.__qualname__
        if isinstance(value, GENERATORS):
            return [kind.__qualname__, self.of(self._of_generator(value))]
        if self._refitted and callable(getattr(value, "get_params", None)):  # of scikit-learn
            return [kind.__qualname__, self.of(value.get_params(deep=False))]
        if _is_ours(value):
            return [kind.__qualname__, without_addresses(value), self.of(self._of_ours(value))]
        holds, told = bool(kind.__dictoffset__), repr(value)
        if not holds and not ADDRESS.search(told):
            return told
        state = _state_of(value)
        if state is None and not holds:
            raise ValueError(
                f"{self._owner}: {self._name!r} has a {kind.__qualname__}, which a resume could "
                "not tell from another, expected numbers, words, arrays, functions and objects of "
                f"them; leave it out of what __getstate__ returns, or call {self._owner} without "
                "resume"
            )
        return [kind.__qualname__, without_addresses(value) if state is None else self.of(state)]

    def _of_generator(self, value: Any) -> Any:
        if not self._refitted:
            raise ValueError(
                f"{self._owner}: {self._name!r} has a {type(value).__qualname__}, which a resume "
                "could not bring back to where it was, expected random numbers that are a function "
                f"of a seed in each call; or call {self._owner} without resume"
            )
        if isinstance(value, np.random.Generator):
            return value.bit_generator.state
        if isinstance(value, np.random.BitGenerator):
            return value.state
        return value.getstate() if isinstance(value, random.Random) else value.get_state()

    def _of_ours(self, value: Any) -> dict[str, Any]:
        """What it was made with, and what it shows beside that."""
        made = made_with(type(value), value)
        if self._refitted and len(made) == len(_parameters(type(value))):
            return made
        held = getattr(value, "__dict__", {})
        return {**made, **{n: v for n, v in held.items() if not n.startswith("_")}}


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
